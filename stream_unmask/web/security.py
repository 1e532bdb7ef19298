"""Who may ask, before anything is answered, and what browsers may do with an answer.

Pages of other sites can make a visitor's browser send requests here, and by a name that they have
pointed to 127.0.0.1 (DNS rebinding) even read the answers. So the `Host` must be one of ours, and
what a browser sends on behalf of another origin is refused.
"""

import hmac
import ipaddress
import secrets
import socket
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stream_unmask.web.session import COOKIE, visitor_of
from stream_unmask.web.settings import Settings, is_loopback

_PASS = "stream_unmask_pass"
_READING = ("GET", "HEAD", "OPTIONS")
_PRIVATE = ("/jobs", "/live")  # what belongs to a visitor
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src 'self' blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Guard:
    """The app, for those who may use it; `request.state.visitor` says who it is.

    403 for a wrong `Host` or another origin, 401 without the token where there is one. The token
    comes as a bearer or once as `/?token=`, which is exchanged for a cookie.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._names = {name.lower() for name in (settings.host, *settings.names)}
        if is_loopback(settings.host):
            self._names.add("localhost")
        else:
            own = socket.gethostname().lower()
            self._names |= {"localhost", own, f"{own}.local"}
        # The cookie is no use on another server, nor after a restart.
        secret = secrets.token_bytes()
        self._pass = hmac.new(secret, (settings.token or "").encode(), sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        instead = self._refused(request) or self._identified(request)
        cookie = None
        if instead is None and scope["path"].startswith(_PRIVATE):
            request.state.visitor, cookie = visitor_of(request.cookies)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                if cookie is not None:
                    headers.append("Set-Cookie", _cookie(request, COOKIE, cookie, "Strict"))
            await send(message)

        await (instead or self._app)(scope, receive, guarded)

    def _refused(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if not self._is_ours(host):
            return _sentence(403, "This server does not go by that name (--allow-host).")
        origin, site = (request.headers.get(name) for name in ("origin", "sec-fetch-site"))
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        if request.method in _READING:  # anybody may link to the page, nobody embed what is here
            navigates = request.headers.get("sec-fetch-mode") == "navigate"
            foreign = foreign or (site in ("cross-site", "same-site") and not navigates)
        else:
            foreign = foreign or site not in (None, "same-origin", "none")
        return _sentence(403, "Other sites may not use this server.") if foreign else None

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self._settings.host)

    def _identified(self, request: Request) -> Response | None:
        """None for who knows the token, else what they get instead."""
        if self._settings.token is None:
            return None
        given = request.query_params.get("token")
        if request.url.path == "/" and given is not None:
            if not _same(given, self._settings.token):
                return self._unknown()
            answer = RedirectResponse("/", 303)
            # Lax, for else who follows a link to here would arrive without it.
            answer.headers.append("Set-Cookie", _cookie(request, _PASS, self._pass, "Lax"))
            return answer
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        known = scheme.lower() == "bearer" and _same(bearer.strip(), self._settings.token)
        known = known or _same(request.cookies.get(_PASS, ""), self._pass)
        return None if known else self._unknown()

    def _unknown(self) -> Response:
        answer = _sentence(401, "Open this page by the address with the token that you were given.")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _sentence(status: int, text: str) -> Response:
    return JSONResponse({"detail": text}, status)


def _cookie(request: Request, name: str, value: str, same_site: str) -> str:
    secure = "; Secure" if request.url.scheme == "https" else ""
    return f"{name}={value}; Path=/; HttpOnly; SameSite={same_site}{secure}"
