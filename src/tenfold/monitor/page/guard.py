"""Who may see the page: hosts that it is called by, and beyond this machine whoever has the token."""

import hmac
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "tenfold-watch"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware. Without a token only names of the loopback are served.

    A page elsewhere that gets a browser to call this machine under a name of its own (DNS rebinding) is refused by
    the name. The token is taken from `Authorization: Bearer`, from a cookie, or once from `?token=`, which sets the
    cookie.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, or refuse with one line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = self._refusal(scope) or self._app

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await answer(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("only GET: the page changes nothing\n", 405)
        if self._token is None:
            host = headers.get("host", "")
            name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
            return None if name in LOOPBACK else PlainTextResponse("called by a name that is not this machine's\n", 421)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if given and self._is_token(given):
            answer = RedirectResponse(scope["path"], 303)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return answer
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if self._is_token([bearer, _cookie(headers)]):
            return None
        return PlainTextResponse("the token is missing: open the address that `tenfold watch` printed\n", 401)

    def _is_token(self, given: Sequence[str]) -> bool:
        assert self._token is not None
        return any(hmac.compare_digest(each.encode(), self._token.encode()) for each in given)


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
