"""A worker that does not get on says why, and stops saying so when it does."""

from __future__ import annotations

import asyncio
import threading

import pytest
from prometheus_client import REGISTRY, generate_latest

from streamrec.errors import TooManyDeadLettersError, TransientError
from streamrec.metrics import PAUSED, WAITING, Endpoint
from streamrec.monitor.scrape import parse
from workers import runtime


def told(name):
    return set(parse(Endpoint("recall", "", 0), generate_latest(REGISTRY).decode()).reasons(name))


def test_what_is_retried_is_told_with_its_newest_reason_until_it_succeeds():
    reasons = ["Redis: READONLY", "Redis: LOADING"]
    seen = []

    def work():
        seen.append(told(WAITING))
        if reasons:
            raise TransientError(reasons.pop(0))
        return 7

    assert runtime.persist_until(threading.Event(), work) == 7
    assert seen == [set(), {"Redis: READONLY"}, {"Redis: LOADING"}]
    assert told(WAITING) == set()


def test_what_fails_for_good_is_no_retry():
    def work():
        raise KeyError("no transient one")

    with pytest.raises(KeyError):
        runtime.persist_until(threading.Event(), work)
    assert told(WAITING) == set()


def test_a_pause_is_told_with_its_reason_for_as_long_as_it_lasts():
    def work():
        raise TooManyDeadLettersError("600 of the last 1000 records were refused")

    async def pause():
        paused = asyncio.create_task(runtime._persist("streamrec-test", work))
        await asyncio.sleep(0)
        said = told(PAUSED)
        paused.cancel()
        await asyncio.gather(paused, return_exceptions=True)
        return said

    assert asyncio.run(pause()) == {"600 of the last 1000 records were refused"}
    assert told(PAUSED) == set()
