"""`/metrics` on the page's server, so that one `tenfold watch` is enough for people and for Prometheus."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from tenfold.core import TenfoldError
from tenfold.monitor.export.prometheus import CONTENT_TYPE, metrics_text, metrics_text_of
from tenfold.monitor.reading import ledger_of


def metrics_routes(campaigns: Sequence[Path]) -> list[BaseRoute]:
    """The route of these campaigns; with several of them, each line is labelled with its campaign."""

    def answer(_request: Request) -> Response:
        try:
            return PlainTextResponse(_text(campaigns), media_type=CONTENT_TYPE)
        except TenfoldError as error:  # a scrape must fail where nothing can be seen
            return PlainTextResponse(f"{error}\n", 503)

    return [Route("/metrics", answer)]


def _text(campaigns: Sequence[Path]) -> str:
    with ExitStack() as stack:
        ledgers = {str(campaign): stack.enter_context(ledger_of(campaign)) for campaign in campaigns}
        return metrics_text_of(ledgers) if len(ledgers) > 1 else metrics_text(next(iter(ledgers.values())))
