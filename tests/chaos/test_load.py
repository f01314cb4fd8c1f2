"""What a chaos run produces is what it says it is."""

from __future__ import annotations

import time
from itertools import islice

from streamrec.chaos.footprint import slope_an_hour
from streamrec.chaos.load import _SPOILED, records
from streamrec.contracts.decode import decode_event
from streamrec.contracts.topics import CLICKS
from streamrec.domain.event import EventType, Source
from streamrec.errors import BadRecordError


def reason(record):
    """Return why the decoder that all workers share refuses a record, empty if it does not."""
    source = Source(EventType.CLICK if record.topic == CLICKS else EventType.PURCHASE, 0)
    try:
        decode_event(source, 0, time.time_ns() // 1_000_000, record.value, {})
    except BadRecordError as error:
        return error.reason
    return ""


def test_poison_is_refused_for_the_reason_it_was_made_for_and_nothing_else_is():
    made = [record for together in islice(records(1, poison_share=0.3), 1_000) for record in together]

    assert {record.reason for record in made} == {"", *_SPOILED}
    assert [reason(record) for record in made] == [record.reason for record in made]


def test_a_seed_gives_the_same_events_but_for_their_times():
    def what(seed):
        return [(each[0].topic, each[0].key, len(each)) for each in islice(records(seed), 500)]

    assert what(1) == what(1) != what(2)


def test_the_slope_is_per_hour():
    assert slope_an_hour([(0.0, 5.0), (1_800.0, 6.0), (3_600.0, 7.0)]) == 2.0
