"""`/metrics` of one campaign on a port of its own, where no page is wanted. Standard library alone."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tenfold.core import InputError, TenfoldError
from tenfold.monitor.export.prometheus import CONTENT_TYPE, metrics_text
from tenfold.monitor.reading import ledger_of

LOOPBACK = "127.0.0.1"


class MetricsServer(ThreadingHTTPServer):
    """Answers GET /metrics with what the ledger has at that moment, on loopback alone.

    A ledger that cannot be read is status 503 with one line: a scrape must fail where nothing can be seen. Raises
    InputError when the port is taken, or where the campaign has no ledger.
    """

    daemon_threads = True

    def __init__(self, campaign: Path, port: int) -> None:
        self.campaign = campaign
        with ledger_of(campaign):
            pass
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise InputError(f"--port {port}: cannot listen there ({error.strerror}); name another, or 0") from error

    @property
    def url(self) -> str:
        """Where to scrape."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/metrics"


class _Handler(BaseHTTPRequestHandler):
    """One request; every one opens the ledger for itself, since requests come on many threads."""

    server: MetricsServer

    def do_GET(self) -> None:
        """Answer a scrape."""
        if self.path.split("?")[0] != "/metrics":
            self._answer(404, "only /metrics is here\n")
            return
        try:
            with ledger_of(self.server.campaign) as ledger:
                self._answer(200, metrics_text(ledger))
        except TenfoldError as error:
            self._answer(503, f"{error}\n")

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a line every few seconds is noise."""
