"""The monitor's web server: dashboard with live updates, metrics and probes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib import resources

import msgspec
from aiohttp import web

from streamrec.adapters.redis import RedisInterestStore, TopKReader
from streamrec.errors import StreamrecError
from streamrec.monitor.access import HEADERS, Handler, guard
from streamrec.monitor.exposition import Exposition
from streamrec.monitor.monitor import Monitor
from streamrec.monitor.page import Page
from streamrec.settings import Settings

POLLS_PER_DRAWING = 3
"""Number of polls between redrawing charts; tables are updated after each poll."""

MAX_USER_ID = 256

_TYPES = {".css": "text/css", ".js": "text/javascript"}


class Site:
    """Request handlers.

    Parameters
    ----------
    settings
        Settings with the addresses of users' states and lists.
    monitor
        The monitor to show.
    """

    def __init__(self, settings: Settings, monitor: Monitor) -> None:
        self._monitor = monitor
        self._page, self._weights = Page(), settings.weights
        self._exposition = Exposition(lambda: monitor.now)
        self._watchers = 0
        self._polls = 0
        self._sections: dict[str, str] = {}
        self._written = asyncio.Condition()
        self._states: RedisInterestStore | None = None
        self._lists: TopKReader | None = None
        if settings.redis_url:
            url, installation = settings.require_redis_url(), settings.installation
            self._states = RedisInterestStore(url, state_ttl_days=settings.state_ttl_days, installation=installation)
            self._lists = TopKReader(url, installation=installation)

    async def write(self) -> None:
        """Render the sections after each poll, while there are viewers, until cancelled."""
        while True:
            async with self._monitor.looked:
                await self._monitor.looked.wait()
            if not self._watchers:
                continue
            self._polls += 1
            self._sections = self._page.sections(self._monitor.now, draw=self._polls % POLLS_PER_DRAWING == 0)
            async with self._written:
                self._written.notify_all()

    async def index(self, _request: web.Request) -> web.Response:
        """Return the page."""
        return web.Response(text=self._page.index(self._monitor.now), content_type="text/html")

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Send changed sections after each poll, until the viewer disconnects."""
        answer = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await answer.prepare(request)
        sent: dict[str, str] = {}
        self._watchers += 1
        try:
            while True:
                async with self._written:
                    await self._written.wait()
                changed = {name: html for name, html in self._sections.items() if sent.get(name) != html}
                sent = dict(self._sections)
                # also sent without changes, so that the page knows that the monitor is alive
                await answer.write(b"event: sections\ndata: " + msgspec.json.encode(changed) + b"\n\n")
        except ConnectionError:
            return answer
        finally:
            self._watchers -= 1

    async def user(self, request: web.Request) -> web.Response:
        """Return what is known of a user."""
        user_id = request.query.get("id", "").strip()
        if not user_id or len(user_id) > MAX_USER_ID or any("\ud800" <= each <= "\udfff" for each in user_id):
            return self._refuse(400, f"A user's id has 1 to {MAX_USER_ID} characters of UTF-8.")
        if self._states is None or self._lists is None:
            return self._refuse(503, "The address of Redis is not set.")
        try:
            snapshot = await asyncio.to_thread(self._states.load, [user_id], [])
            topk = await asyncio.to_thread(self._lists.read, user_id)
        except StreamrecError as error:
            return self._refuse(503, str(error))
        html = self._page.user(user_id, snapshot.states[user_id], topk, self._weights)
        return web.Response(text=html, content_type="text/html")

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Return everything for Prometheus."""
        answer = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
        await answer.prepare(request)
        with suppress(ConnectionError):
            for part in self._exposition.text():
                await answer.write(part)
            await answer.write_eof()
        return answer

    async def healthz(self, _request: web.Request) -> web.Response:
        """Answer that the monitor is alive."""
        return web.json_response({"alive": True})

    async def readyz(self, _request: web.Request) -> web.Response:
        """Return whether the pipeline is healthy, with the causes if not."""
        verdict = self._monitor.now.verdict
        return web.json_response(verdict, status=200 if verdict["ready"] else 503)

    def _refuse(self, status: int, because: str) -> web.Response:
        return web.Response(text=self._page.refused(because), status=status, content_type="text/html")


def make_app(settings: Settings, site: Site) -> web.Application:
    """Return the application.

    Raises
    ------
    SettingsError
        If it is reachable from other hosts and no token is set.
    """
    app = web.Application(middlewares=[guard(settings)])
    app.add_routes(
        [
            web.get("/", site.index),
            web.get("/events", site.events),
            web.get("/user", site.user),
            web.get("/metrics", site.metrics),
            web.get("/healthz", site.healthz),
            web.get("/readyz", site.readyz),
            *(web.get(f"/static/{name}", _static(name)) for name in ("monitor.css", "monitor.js")),
        ]
    )
    return app


def _static(name: str) -> Handler:
    content = resources.files(__package__).joinpath("static", name).read_bytes()
    kind = _TYPES[name[name.rindex(".") :]]

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(body=content, content_type=kind, charset="utf-8")

    return serve
