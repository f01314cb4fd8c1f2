"""Who may see the monitor: everybody of this machine as long as nobody else can reach it, else who has the token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from streamrec.environment import variable_name
from streamrec.errors import SettingsError
from streamrec.settings import Settings

COOKIE = "streamrec-monitor"
PROBES = frozenset({"/healthz", "/readyz"})
"""Open to everybody: an orchestrator asks without a token, and learns no user's data."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_COOKIE_AGE_S = 30 * 86_400

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS = {
    # pygal writes its colours into the SVG
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def guard(settings: Settings) -> Middleware:
    """Return the middleware that lets requests in or not.

    Raises
    ------
    SettingsError
        If others can reach the monitor and there is no token.
    """
    token = settings.monitor_token.get_secret_value() if settings.monitor_token else ""
    if not token and settings.monitor_host not in _LOOPBACK:
        raise SettingsError(
            f"{variable_name('monitor_token')} is not set, and others can reach {settings.monitor_host}; "
            f"set it, or leave {variable_name('monitor_host')} at 127.0.0.1"
        )

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await _answer(request, handler, token)
        if not answer.prepared:
            answer.headers.update(HEADERS)
        return answer

    return check


async def _answer(request: web.Request, handler: Handler, token: str) -> web.StreamResponse:
    if request.path in PROBES or (not token and _is_local(request)):
        return await handler(request)
    if not token:
        # a page elsewhere that had its own name point here would read ours otherwise
        raise web.HTTPForbidden(text="The monitor answers to names of this machine only.\n")
    if request.path == "/" and _is(request.query.get("token", ""), token):
        answer = web.HTTPSeeOther("/")
        answer.set_cookie(COOKIE, token, max_age=_COOKIE_AGE_S, httponly=True, samesite="Strict", secure=request.secure)
        raise answer
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.cookies.get(COOKIE, "")
    if not _is(sent, token):
        raise web.HTTPUnauthorized(text="Open /?token=TOKEN once, or send the token as a bearer.\n")
    return await handler(request)


def _is_local(request: web.Request) -> bool:
    name = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
    return name.strip("[]") in _LOOPBACK


def _is(sent: str, token: str) -> bool:
    # bytes of a header that are no text arrive as halves of surrogates
    return hmac.compare_digest(sent.encode(errors="surrogatepass"), token.encode())
