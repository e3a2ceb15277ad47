"""The page's routes: its files, the state of runs, curves for the screen, the feed. All of them GET; none writes."""

import asyncio
import contextlib
import csv
import io
import math
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from tenfold.core import TenfoldError
from tenfold.monitor.page.assets import assets
from tenfold.monitor.page.decimate import means, thin
from tenfold.monitor.page.feed import Feed
from tenfold.monitor.page.frame import FrameCurve, encode
from tenfold.monitor.page.guard import Guard
from tenfold.monitor.page.source import LedgerWatch, messages_of

T = TypeVar("T")
TICK_S = 1.0
PING_S = 15
MOST_COLUMNS = 8192  # of a curve, wider than any screen
MOST_CURVES = 512  # in one request
BEYOND_INT = 2**53


class Watcher:
    """The campaigns and one thread that reads their ledgers, so that nothing else waits for a disk."""

    def __init__(self, campaigns: Sequence[Path]) -> None:
        """Open them. Raises InputError and TenfoldError as LedgerWatch does."""
        self.feed = Feed()
        self._reader = ThreadPoolExecutor(1, "ledger")
        self.sources: list[LedgerWatch] = []
        try:
            for number, directory in enumerate(campaigns):
                self.sources.append(self._reader.submit(LedgerWatch, number, directory).result())
            self._reader.submit(messages_of, self.sources).result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the ledgers."""
        for source in self.sources:
            self._reader.submit(source.close)
        self._reader.shutdown()

    async def ask(self, what: Callable[..., T], *values: Any) -> T:
        """Call it in the thread of the ledgers. A ledger that cannot be read answers 503 with its line."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, what, *values)
        except TenfoldError as error:
            raise HTTPException(503, str(error)) from error

    async def follow(self) -> None:
        """Publish what is new, every second."""
        while True:
            await asyncio.sleep(TICK_S)
            self.feed.publish(await self.ask(messages_of, self.sources))

    async def read_ahead(self) -> None:
        """Read the curves of each campaign's newest run, so that the page finds them in memory."""
        for source in self.sources:
            for run_id in sorted(source.runs)[-1:]:
                for name in await self.ask(source.names, run_id):
                    await self.ask(source.curve, run_id, name)

    def source_of(self, key: str) -> tuple[LedgerWatch, int]:
        """`0.3` is run 3 of the first campaign."""
        campaign, _, run = key.partition(".")
        known = campaign.isdecimal() and run.isdecimal() and int(campaign) < len(self.sources)
        if not known or int(run) not in self.sources[int(campaign)].runs:
            raise HTTPException(404, f"no run {key[:40]!r}")
        return self.sources[int(campaign)], int(run)


def page_app(watcher: Watcher, token: str | None = None, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """The application; `routes` of others, such as an exporter's /metrics, are served and guarded as its own."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(each()) for each in (watcher.follow, watcher.read_ahead)]
        yield
        watcher.feed.close()
        for task in tasks:
            task.cancel()

    own = _Routes(watcher)
    served = [
        Route("/", own.index),
        Route("/static/{path:path}", own.static),
        Route("/api/state", own.state),
        Route("/api/run/{key}", own.run),
        Route("/api/curves", own.curves),
        Route("/api/curve.csv", own.curve_csv),
        Route("/feed", own.feed),
        *routes,
    ]
    middleware = [Middleware(Guard, token), Middleware(GZipMiddleware, minimum_size=400, compresslevel=6)]
    return Starlette(
        routes=served, middleware=middleware, lifespan=lifespan, exception_handlers={HTTPException: _one_line}
    )


def _one_line(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}\n", error.status_code)


class _Routes:
    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    async def index(self, request: Request) -> Response:
        return _file("index.html", request)

    async def static(self, request: Request) -> Response:
        return _file(request.path_params["path"], request)

    async def state(self, _request: Request) -> Response:
        """The campaigns with their runs, everything about the first to be shown, the cursor where the feed goes on."""
        cursor, sources = self._watcher.feed.cursor, self._watcher.sources
        first = newest([source.record for source in sources])
        details = None if first is None else await self._watcher.ask(sources[first[0]].details, first[1])
        record = {"cursor": cursor, "campaigns": [source.record for source in sources], "first": details}
        return JSONResponse(_finite(record))

    async def run(self, request: Request) -> Response:
        source, run_id = self._watcher.source_of(request.path_params["key"])
        return JSONResponse(_finite(await self._watcher.ask(source.details, run_id)))

    async def curves(self, request: Request) -> Response:
        """A frame (`frame.py`) of each `name` of `run`, thinned to `columns`, from step `low` to `high`."""
        query = request.query_params
        source, run_id = self._watcher.source_of(query.get("run", ""))
        names = query.getlist("name")[:MOST_CURVES]
        low, high = _whole(query.get("low"), 0), _whole(query.get("high"), BEYOND_INT)
        columns, groups = _whole(query.get("columns"), 800), _whole(query.get("means"), 0)
        content = await self._watcher.ask(_frame, source, run_id, names, low, high, columns, groups)
        return Response(content, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})

    async def curve_csv(self, request: Request) -> Response:
        """Every row of the named curves between two steps, exactly as the ledger has them."""
        query = request.query_params
        source, run_id = self._watcher.source_of(query.get("run", ""))
        low, high = _whole(query.get("low"), 0), _whole(query.get("high"), BEYOND_INT)
        names = query.getlist("name")[:MOST_CURVES]
        text = await self._watcher.ask(_csv, source, run_id, names, low, high)
        named = {"Content-Disposition": 'attachment; filename="curve.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=named)

    async def feed(self, request: Request) -> Response:
        cursor = request.headers.get("last-event-id") or request.query_params.get("after", "")
        alive = lambda: ServerSentEvent("1", event="alive")  # noqa: E731
        return EventSourceResponse(self._watcher.feed.follow(cursor), ping=PING_S, ping_message_factory=alive)


def newest(campaigns: Sequence[dict[str, Any]]) -> tuple[int, int] | None:
    """Campaign and run to show first: one that goes on, else the training that began last."""

    def rank(run: dict[str, Any]) -> tuple[bool, bool, float]:
        return run["status"] == "running", run["kind"] == "train", run["started_at"]

    runs = [run for campaign in campaigns for run in campaign["runs"] if campaign["trouble"] is None]
    best = max(runs, key=rank, default=None)
    return None if best is None else (best["campaign"], best["id"])


def _file(name: str, request: Request) -> Response:
    asset = assets().get(name)
    if asset is None:
        raise HTTPException(404, "no such file")
    headers = {"ETag": asset.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    packed = "gzip" in request.headers.get("accept-encoding", "")
    headers |= {"Content-Encoding": "gzip"} if packed else {}
    return Response(asset.packed if packed else asset.plain, media_type=asset.type, headers=headers)


def _whole(text: str | None, otherwise: int) -> int:
    """A number from 0 on of the address; anything else is refused."""
    if text is None:
        return otherwise
    if not text.isdecimal() or len(text) > 16:
        raise HTTPException(400, f"{text[:20]!r} is no whole number")
    return int(text)


def _frame(
    source: LedgerWatch, run_id: int, names: Sequence[str], low: int, high: int, columns: int, groups: int
) -> bytes:
    curves = {name: source.curve(run_id, name) for name in names}
    high = min(high, max((curve.last for curve in curves.values()), default=0))
    high, columns = max(high, low), min(max(columns, 1), MOST_COLUMNS)
    sent = []
    for name, curve in curves.items():
        thinned = thin(curve.steps, curve.values, low, high, columns)
        about = {"name": name, "of": len(curve), "last": curve.last, "broken": thinned.not_finite.tolist()}
        sent.append(FrameCurve(about, thinned.steps, thinned.values))
        if groups:
            mean = means(curve.steps, curve.values, low, high, groups)
            sent.append(FrameCurve({"name": name, "means": mean.width}, mean.steps, mean.values))
    return encode({"low": low, "high": high}, sent)


def _csv(source: LedgerWatch, run_id: int, names: Sequence[str], low: int, high: int) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["name", "step", "value"])
    for name in names:
        curve = source.curve(run_id, name)
        inside = (curve.steps >= low) & (curve.steps <= high)
        writer.writerows(
            (name, step, repr(value))
            for step, value in zip(curve.steps[inside].tolist(), curve.values[inside].tolist(), strict=True)
        )
    return out.getvalue()


def _finite(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
