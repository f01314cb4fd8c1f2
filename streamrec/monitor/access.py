"""Access control of the monitor: open on loopback, otherwise a token is required."""

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
"""Paths without access control, for probes of orchestrators; they contain no user data."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_COOKIE_AGE_S = 30 * 86_400

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def guard(settings: Settings) -> Middleware:
    """Return the middleware that authorises requests.

    Raises
    ------
    SettingsError
        If the monitor is reachable from other hosts and no token is set.
    """
    token = settings.monitor_token.get_secret_value() if settings.monitor_token else ""
    if not token and settings.monitor_host not in _LOOPBACK:
        raise SettingsError(
            f"{variable_name('monitor_token')} is not set, but {settings.monitor_host} is reachable from other hosts; "
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
        # prevents DNS rebinding: another site's name could resolve to this host
        raise web.HTTPForbidden(text="The monitor only answers to host names of this machine.\n")
    if request.path == "/" and _is(request.query.get("token", ""), token):
        answer = web.HTTPSeeOther("/")
        answer.set_cookie(COOKIE, token, max_age=_COOKIE_AGE_S, httponly=True, samesite="Strict", secure=request.secure)
        raise answer
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.cookies.get(COOKIE, "")
    if not _is(sent, token):
        raise web.HTTPUnauthorized(text="Open /?token=TOKEN once, or send the token as a bearer token.\n")
    return await handler(request)


def _is_local(request: web.Request) -> bool:
    name = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
    return name.strip("[]") in _LOOPBACK


def _is(sent: str, token: str) -> bool:
    # undecodable bytes of a header arrive as lone surrogates
    return hmac.compare_digest(sent.encode(errors="surrogatepass"), token.encode())
