"""Who may talk to the server: the checks that every request and socket passes before anything else sees it.

- Host must be the address that the server was started on: a page of a foreign name that resolves to this machine
  (DNS rebinding) is refused.
- Origin, where the browser sends one, must be the server's own; acts and sockets must send one, or say by
  Sec-Fetch-Site that they come from the page.
- The random token of the printed address is taken once and changed for a cookie that scripts cannot read and that the
  browser sends from this site alone.
- Bodies are small. What comes back may load nothing from elsewhere (Content-Security-Policy).
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mam_video.studio.uploads import MOST_BYTES

MOST_BODY: Final = 256 << 10  # bytes of a request; acts have some hundred
_MASK: Final = re.compile(r"/api/\d{1,9}/mask/\d{1,9}")  # where a picture may be sent
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# The report is one file with its own scripts and styles: it is shown as if it came from nowhere.
REPORT_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; sandbox allow-scripts"
)


class Guard:
    """ASGI middleware with the checks above.

    token  of the address that is printed
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], port: int) -> None:
        """`hosts`: names and addresses of the server, without port."""
        self._app = app
        names = [f"[{host}]" if ":" in host else host for host in hosts]
        self._hosts = {f"{name}:{port}" for name in names}
        self._origins = {f"http://{host}" for host in self._hosts}
        self.token = secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)
        self._cookie = f"mam_video_studio_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        why = self._refusal(scope, headers)
        if why:
            await _refuse(scope, receive, send, why)
            return
        if not self._known(headers):
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            opens = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
            if opens and _same(given, self.token):
                await self._welcome()(scope, receive, send)
            else:
                await _refuse(scope, receive, send, "open the address that mam-video studio printed")
            return
        if scope["type"] == "http":
            length = headers.get("content-length", "0")
            most = MOST_BYTES if scope["method"] == "POST" and _MASK.fullmatch(scope["path"]) else MOST_BODY
            if not length.isdigit() or int(length) > most:
                await PlainTextResponse("the request is too large", 413)(scope, receive, send)
                return
            await self._bounded(scope, receive, send, most)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> str:
        """Return why a request is refused; "" where it is not."""
        if headers.getlist("host") == [] or any(host not in self._hosts for host in headers.getlist("host")):
            return "the address is not this server's"
        origins = headers.getlist("origin")
        if any(origin not in self._origins for origin in origins):
            return "another site may not talk to this server"
        site = headers.get("sec-fetch-site", "")
        opened = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if site not in ("", "same-origin") and not (opened and site == "none"):
            return "another site may not talk to this server"
        if not opened and not origins:
            return "acts come from the page alone"
        return ""

    def _known(self, headers: Headers) -> bool:
        jar = SimpleCookie()
        try:
            jar.load(headers.get("cookie", ""))
        except CookieError:
            return False
        found = jar.get(self._cookie)
        return found is not None and _same(found.value, self._session)

    def _welcome(self) -> RedirectResponse:
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self._cookie, self._session, httponly=True, samesite="strict", path="/")
        answer.headers.update(_HEADERS)
        return answer

    async def _bounded(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > most:
                    # The application answers with it. The connection ends, so that the rest is not read.
                    raise HTTPException(413, "the request is too large", {"connection": "close"})
            return message

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, limited, marked)


_HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "private, no-cache",
}


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())


async def _refuse(scope: Scope, receive: Receive, send: Send, why: str) -> None:
    if scope["type"] == "websocket":
        await receive()  # the handshake
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    await PlainTextResponse(why, 403, headers=dict(_HEADERS))(scope, receive, send)
