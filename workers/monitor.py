"""The `monitor` worker: polls the others from outside, and serves a dashboard, metrics and probes.

It is a separate process and not a Faust app: it joins no group, and survives all others.
"""

from __future__ import annotations

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor

import structlog
from aiohttp import web

from streamrec import logs
from streamrec.environment import variable_name
from streamrec.errors import StreamrecError
from streamrec.metrics import Endpoint, announced
from streamrec.monitor.monitor import Monitor
from streamrec.monitor.scrape import MONITOR as NAME
from streamrec.monitor.web import Site, make_app
from streamrec.settings import Settings

THREADS = 3
"""Threads for blocking work: retention report, poll, user look-up. Each thread takes memory."""

_SHUTDOWN_S = 1.0
"""Viewers of the dashboard hold connections open; shutdown does not wait for them."""

_log = structlog.get_logger(__name__)


async def serve(settings: Settings) -> None:
    """Poll and serve until SIGTERM or SIGINT.

    Raises
    ------
    SettingsError
        If the dashboard is reachable from other hosts and no token is set.
    StreamrecError
        If the port is taken.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    monitor = Monitor(settings)
    site = Site(settings, monitor)
    runner = web.AppRunner(make_app(settings, site), access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        endpoint = await _listen(runner, settings)
        with announced(settings, endpoint):
            _log.info("monitor", page=f"http://{endpoint.host}:{endpoint.port}")
            await _until_stopped(monitor, site)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, settings: Settings) -> Endpoint:
    try:
        await web.TCPSite(runner, settings.monitor_host, settings.monitor_port).start()
    except OSError as error:
        raise StreamrecError(
            f"the monitor cannot listen on {settings.monitor_host}:{settings.monitor_port} ({error.strerror}); "
            f"set {variable_name('monitor_port')} to another port"
        ) from error
    return Endpoint(NAME, settings.monitor_host, runner.addresses[0][1])


async def _until_stopped(monitor: Monitor, site: Site) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with asyncio.TaskGroup() as group:  # an unexpected error ends the process
        working = [group.create_task(monitor.run()), group.create_task(site.write())]
        await stopping.wait()
        for task in working:
            task.cancel()


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    logs.configure(settings.log_level, worker=NAME)
    asyncio.run(serve(settings))
