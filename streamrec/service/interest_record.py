"""The `user-interests` record of a user, within the topic's record size limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.contracts.topics import USER_INTERESTS
from streamrec.domain.feedback import WEIGHTS, Weights, signed
from streamrec.domain.interest import InterestState
from streamrec.domain.summary import category_transitions, summarise
from streamrec.service.ports import Outgoing
from streamrec.service.record_size import fits, size_of

SUMMARY_SIZE = 10
"""Number of the strongest categories and items in the summary of a state."""

_encoder = msgspec.json.Encoder()

K = TypeVar("K")
T = TypeVar("T")


@dataclass(slots=True)
class Changed:
    """Events that a batch added to a user's state."""

    new: list[EventPosition] = field(default_factory=list)
    produced_at_ms: int = 0
    headers: Mapping[str, bytes] = field(default_factory=dict)
    """Trace context of the newest of them."""


def interest_record(
    user_id: str, state: InterestState, changed: Changed, room: int, weights: Weights = WEIGHTS
) -> tuple[Outgoing, int]:
    """Return the record of a changed state, and the number of events omitted from its sequence to fit.

    The oldest events are omitted, except the newest one; if that is not enough, `seen_before`, and then
    `disliked_before`. All other fields describe the whole state. A position in `new` whose event was omitted refers to
    an event older than the sequence, which `new` may contain anyway.

    Parameters
    ----------
    room
        Record size limit of the topic, overhead included, in bytes.
    weights
        Weight of each kind of event.
    """
    interest = user_interest(user_id, state, changed, weights)
    record = _encoded(interest, changed)
    if fits(record, room):
        return record, 0
    sequence = interest.sequence
    left_out, last = 0, len(sequence) - 1
    while (excess := size_of(record) - room) > 0 and left_out < last:
        while excess > 0 and left_out < last:
            excess -= len(_encoder.encode(sequence[left_out])) + 1  # plus a comma
            left_out += 1
        record = _encoded(_shortened(interest, left_out), changed)
    if size_of(record) > room and interest.seen_before:
        interest = msgspec.structs.replace(interest, seen_before=[])
        record = _encoded(_shortened(interest, left_out), changed)
    if size_of(record) > room and interest.disliked_before:
        record = _encoded(msgspec.structs.replace(_shortened(interest, left_out), disliked_before=[]), changed)
    return record, left_out


def _shortened(interest: UserInterest, left_out: int) -> UserInterest:
    """Return a record without the oldest events of its sequence, which hides the same items."""
    hidden = interest.hidden(seen=False) if left_out else interest.disliked_before
    return msgspec.structs.replace(interest, sequence=interest.sequence[left_out:], disliked_before=sorted(hidden))


def _encoded(interest: UserInterest, changed: Changed) -> Outgoing:
    return Outgoing(USER_INTERESTS, interest.user_id.encode(), _encoder.encode(interest), changed.headers)


def user_interest(user_id: str, state: InterestState, changed: Changed, weights: Weights = WEIGHTS) -> UserInterest:
    """Return the record of a non-empty state."""
    interest, sequence = summarise(state, weights), signed(state.sequence, weights)
    transitions = category_transitions([event for event in sequence if event.category and event.event_type >= 0])
    return UserInterest(
        user_id=user_id,
        # not the write version: a store restored from an older state would restart at a lower one
        state_version=state.content_version,
        event_time_ms=state.sequence[-1].event_time_ms,
        produced_at_ms=changed.produced_at_ms,
        sequence=list(sequence),
        new=changed.new,
        short_term=dict(_strongest(interest.short_term, _itself)),
        long_term=dict(_strongest(interest.long_term, max)),
        long_term_items=dict(_strongest(interest.long_term_items, max)),
        transitions=[(*step, count) for step, count in _strongest(transitions, _itself)],
        events_count=state.events_count,
        seen_before=state.seen_before(),
        disliked_before=state.disliked_before(sequence),
    )


def _itself(weight: float) -> float:
    return weight


def _strongest(weights: dict[K, T], strength: Callable[[T], float]) -> list[tuple[K, T]]:
    """Return the strongest first; ties keep their order."""
    if len(weights) <= 1:
        return list(weights.items())
    return sorted(weights.items(), key=lambda pair: strength(pair[1]), reverse=True)[:SUMMARY_SIZE]
