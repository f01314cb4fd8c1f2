"""Who may see the monitor."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from streamrec.errors import SettingsError
from streamrec.monitor.access import COOKIE, guard
from streamrec.settings import Settings


def asked(requests, **settings):
    """Return the status of each request, made by one client after the other."""

    async def ok(_request):
        return web.Response(text="ok")

    async def ask():
        app = web.Application(middlewares=[guard(Settings(**settings))])
        app.add_routes([web.get(path, ok) for path in ("/", "/user", "/metrics", "/healthz", "/readyz")])
        async with TestClient(TestServer(app)) as client:
            return [(await client.get(path, **options)).status for path, options in requests]

    return asyncio.run(ask())


def test_on_this_machine_nobody_needs_a_token():
    assert asked([("/", {}), ("/metrics", {})]) == [200, 200]


def test_a_page_that_comes_by_another_name_is_refused():
    assert asked([("/", {"headers": {"Host": "evil.example:8474"}}), ("/", {"headers": {"Host": "localhost"}})]) == [
        403,
        200,
    ]


def test_with_a_token_all_but_the_probes_need_it():
    statuses = asked(
        [
            ("/healthz", {}),
            ("/readyz", {}),
            ("/metrics", {}),
            ("/user?token=secret", {}),
            ("/", {"headers": {"Authorization": "Bearer wrong"}}),
            ("/", {"headers": {"Authorization": "Bearer secret"}}),
            ("/", {"cookies": {COOKIE: "wrong"}}),
        ],
        monitor_token="secret",
        monitor_host="0.0.0.0",
    )
    assert statuses == [200, 200, 401, 401, 401, 200, 401]


def test_a_token_in_the_address_becomes_a_cookie_once():
    # the client follows to / with the cookie that it got
    assert asked([("/?token=secret", {})], monitor_token="secret") == [200]
    assert asked([("/?token=wrong", {}), ("/", {})], monitor_token="secret") == [401, 401]


def test_others_are_not_let_in_without_a_token():
    with pytest.raises(SettingsError, match="STREAMREC_MONITOR_TOKEN"):
        guard(Settings(monitor_host="0.0.0.0"))


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: streamrec-monitor=\xff\xfe\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\r\n",
        b"GET /?token=%ff HTTP/1.1\r\nHost: x\r\n",
        b"GET /?token=\xff HTTP/1.1\r\nHost: x\r\n",
        b"GET /user?id=%ed%b0%80 HTTP/1.1\r\nHost: x\r\n",
    ],
)
def test_bytes_that_are_no_text_are_not_let_in_and_break_nothing(request_):
    async def ok(_request):
        return web.Response(text="ok")

    async def ask():
        app = web.Application(middlewares=[guard(Settings(monitor_token="secret"))])
        app.add_routes([web.get("/", ok)])
        async with TestServer(app) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(request_ + b"Connection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return int(answer.split()[1])

    assert asyncio.run(ask()) in {400, 401}
