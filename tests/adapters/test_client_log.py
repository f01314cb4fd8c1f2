"""Log lines of librdkafka are written, but rate-limited."""

from __future__ import annotations

import logging

import pytest

from streamrec.adapters.kafka.client import SAID_EVERY_S, Sparing


@pytest.fixture
def written():
    """Return a function that says whether a line would be written."""
    clock = [0.0]
    sparing = Sparing(lambda: clock[0])

    def is_written(kind, client, at_s, *, wall_s=0.0):
        record = logging.LogRecord("librdkafka", logging.ERROR, "", 0, "%s [%s] %s", (kind, client, "words"), None)
        record.created, clock[0] = wall_s, at_s
        return sparing.filter(record)

    return is_written


def test_a_client_says_the_same_kind_of_thing_once_in_a_while(written):
    assert written("FAIL", "consumer-1", 100.0)
    assert not written("FAIL", "consumer-1", 100.0 + SAID_EVERY_S / 2)
    assert written("FAIL", "consumer-1", 100.0 + SAID_EVERY_S)


def test_another_client_and_another_kind_are_heard(written):
    assert written("FAIL", "consumer-1", 100.0)
    assert written("FAIL", "producer-2", 100.1)
    assert written("SESSTMOUT", "consumer-1", 100.2)


@pytest.mark.parametrize("jump_s", [-3_600.0, 3_600.0])
def test_a_clock_that_jumps_neither_silences_a_client_nor_lets_it_speak(written, jump_s):
    assert written("FAIL", "consumer-1", 100.0, wall_s=1e9)
    assert not written("FAIL", "consumer-1", 100.0 + SAID_EVERY_S / 2, wall_s=1e9 + jump_s)
    assert written("FAIL", "consumer-1", 100.0 + SAID_EVERY_S, wall_s=1e9 + jump_s + SAID_EVERY_S / 2)
