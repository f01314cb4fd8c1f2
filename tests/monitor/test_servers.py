"""Unavailable servers, and one that hangs."""

from __future__ import annotations

import asyncio
import threading

import pytest

from streamrec.errors import TransientError
from streamrec.monitor import servers as module
from streamrec.monitor.servers import Condition, Servers
from streamrec.settings import Settings


@pytest.fixture
def servers(monkeypatch):
    """Return servers of which none has an address; tests say how they answer."""
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    return Servers(Settings(kafka="nowhere:1", redis_url=None, postgres_url=None))


def refuse():
    raise TransientError("Redis: refused")


def test_a_fault_is_what_the_server_said(servers):
    servers._asks = {"Redis": refuse, "PostgreSQL": lambda: None}
    assert asyncio.run(servers.faults()) == {"Redis": "refused"}


def test_one_that_hangs_is_named_and_neither_hides_the_others_nor_is_asked_again(servers):
    awake, asked = threading.Event(), []

    def hang():
        asked.append(1)
        assert awake.wait(30)

    servers._asks = {"PostgreSQL": hang, "Redis": refuse}

    async def look_three_times():
        first, second = await servers.faults(), await servers.faults()
        awake.set()
        while servers._asked:
            third = await servers.faults()
        return first, second, third

    first, second, third = asyncio.run(look_three_times())
    assert first == second == {"PostgreSQL": "no answer for 0.2 s", "Redis": "refused"}
    assert third == {"Redis": "refused"}
    assert len(asked) == 1


def test_an_available_server_reports_its_condition_and_an_unavailable_one_nothing(servers):
    answers = {"Redis": lambda: Condition(["it evicts keys"], ["nothing on disk"]), "PostgreSQL": lambda: None}
    servers._asks = answers
    assert asyncio.run(servers.faults()) == {}
    assert servers.conditions["Redis"] == (["it evicts keys"], ["nothing on disk"])

    servers._asks = answers | {"Redis": refuse}
    assert asyncio.run(servers.faults()) == {"Redis": "refused"}
    assert list(servers.conditions) == ["PostgreSQL"]
