"""What librdkafka has to say is heard, and not twenty times a second."""

from __future__ import annotations

import logging

import pytest

from streamrec.adapters.kafka.client import SAID_EVERY_S, Sparing


@pytest.fixture
def written():
    """Return a function that says whether a line would be written."""
    sparing = Sparing()

    def is_written(kind, client, at_s):
        record = logging.LogRecord("librdkafka", logging.ERROR, "", 0, "%s [%s] %s", (kind, client, "words"), None)
        record.created = at_s
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
