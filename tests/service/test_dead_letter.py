"""A size that is checked where a record leaves: a dead letter fits its topic, whatever the record was."""

from __future__ import annotations

import pytest
from builders import NOW_MS

from streamrec.contracts.topics import BROKER_MAX_MESSAGE_BYTES
from streamrec.errors import BadRecordError
from streamrec.service.batch import Record, TopicPartition
from streamrec.service.dead_letter import dead_letter
from streamrec.service.record_size import size_of

SOURCE = TopicPartition("clicks", 3)
ERROR = BadRecordError("bad-json", "ü" * 2_000)
MANY_SMALL = {f"header-{n}": b"v" for n in range(200_000)}
TWO_LARGE = {"ce_id": b"1", "first": bytes(900_000), "second": bytes(300_000)}


def letter_of(key, value, headers, **options):
    return dead_letter(SOURCE, Record(17, NOW_MS, key, value, headers), ERROR, "interests", **options)


def sizes(letter):
    return {name: int(letter.headers[f"dlq.{name}_bytes"]) for name in ("key", "value", "headers")}


def test_a_record_that_fits_is_kept_whole_and_nothing_is_said_of_a_cut():
    letter = letter_of(b"u1", b"{broken", {"h": b"v", "ce_id": b"1"})

    assert (letter.topic, letter.key, letter.value) == ("clicks.dlq", b"u1", b"{broken")
    assert {"h": b"v", "ce_id": b"1"}.items() <= letter.headers.items()
    assert not {name for name in letter.headers if name.startswith("dlq.") and ("cut" in name or "bytes" in name)}


@pytest.mark.parametrize("room", [8_000, 100_000, BROKER_MAX_MESSAGE_BYTES])
@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"u1", b"{broken", MANY_SMALL),
        (b"u1", b"{broken", TWO_LARGE),
        (b"u1", bytes(2_000_000), {}),
        (b"u" * 2_000_000, b"{broken", {}),
        (b"u" * 2_000_000, bytes(2_000_000), MANY_SMALL | TWO_LARGE),
        (None, None, {"only": bytes(2_000_000)}),
        (None, bytes(BROKER_MAX_MESSAGE_BYTES - 100), {}),
        (b"u" * (BROKER_MAX_MESSAGE_BYTES - 100), None, {}),
        (b"", b"x", {"ü" * 600_000: b"v"}),
    ],
)
def test_what_is_sent_is_measured_with_its_headers_and_overhead_and_cut_to_fit(key, value, headers, room):
    letter = letter_of(key, value, headers, room=room)

    assert size_of(letter) <= room
    assert (key or b"").startswith(letter.key or b"")
    assert (value or b"").startswith(letter.value or b"")
    assert (letter.key is None, letter.value is None) == (key is None, value is None)
    assert letter.headers["dlq.cut"]
    assert (sizes(letter)["key"], sizes(letter)["value"]) == (len(key or b""), len(value or b""))
    assert letter.headers["dlq.offset"] == b"17"


def test_headers_go_before_the_value_and_large_ones_before_small_ones():
    letter = letter_of(b"u1", b"{broken", TWO_LARGE)

    assert letter.headers["dlq.cut"] == b"headers"
    assert (letter.key, letter.value) == (b"u1", b"{broken")
    assert {"ce_id", "second"} <= letter.headers.keys()
    assert "first" not in letter.headers
    assert sizes(letter)["headers"] > 1_200_000


def test_as_much_of_the_value_is_kept_as_fits():
    value = bytes(range(256)) * 8_000
    letter = letter_of(b"u1", value, {"h": bytes(5_000)})

    assert letter.headers["dlq.cut"] == b"headers,value"
    assert len(letter.value) > BROKER_MAX_MESSAGE_BYTES - 3_000
    assert letter.key == b"u1"


def test_a_key_is_cut_before_nothing_is_left_of_the_value():
    letter = letter_of(b"u" * 1_040_000, b"{" * 20_000, {})

    assert letter.headers["dlq.cut"] == b"key"
    assert letter.value == b"{" * 20_000
