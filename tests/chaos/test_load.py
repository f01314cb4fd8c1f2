"""What a chaos run produces is what it says it is."""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import islice

from streamrec.chaos.footprint import slope_an_hour
from streamrec.chaos.load import _SPOILED, records
from streamrec.chaos.undecodable import MARK
from streamrec.contracts.decode import ID_REUSED, decode_event
from streamrec.domain.interest import FoldRules, InterestState, Outcome
from streamrec.errors import BadRecordError


def reason(record, offset, states):
    """Return why the decoder or the state of its user refuses a record, empty if neither does."""
    if record.headers:  # which its readers cannot read
        return "bad-headers" if MARK in record.headers else ""
    try:
        event = decode_event((record.topic, 0), offset, time.time_ns() // 1_000_000, record.value, {})
    except BadRecordError as error:
        return error.reason
    return ID_REUSED if states[event.user_id].fold(event, FoldRules(50)) is Outcome.CONFLICT else ""


def test_poison_is_refused_for_the_reason_it_was_made_for_and_nothing_else_is():
    made = [record for together in islice(records(1, poison_share=0.3), 1_000) for record in together]

    assert {record.reason for record in made} == {"", *_SPOILED}
    states = defaultdict(InterestState)
    found = [reason(record, offset, states) for offset, record in enumerate(made)]
    assert found == [record.reason for record in made]


def test_a_seed_gives_the_same_events_but_for_their_times():
    def what(seed):
        return [(each[0].topic, each[0].key, len(each)) for each in islice(records(seed), 500)]

    assert what(1) == what(1) != what(2)


def test_the_slope_is_per_hour():
    assert slope_an_hour([(0.0, 5.0), (1_800.0, 6.0), (3_600.0, 7.0)]) == 2.0
