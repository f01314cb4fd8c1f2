"""The `user-interests` record of a user, no larger than its topic takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.contracts.topics import USER_INTERESTS
from streamrec.domain.interest import InterestState
from streamrec.domain.summary import category_transitions, summarise
from streamrec.service.ports import Outgoing
from streamrec.service.record_size import size_of

SUMMARY_SIZE = 10
"""So many of the strongest categories and items travel in the summary of a state."""

_encoder = msgspec.json.Encoder()

K = TypeVar("K")
T = TypeVar("T")


@dataclass(slots=True)
class Changed:
    """What a batch has added to the state of a user."""

    new: list[EventPosition] = field(default_factory=list)
    produced_at_ms: int = 0
    headers: Mapping[str, bytes] = field(default_factory=dict)
    """What the newest of them says of its trace."""


def interest_record(user_id: str, state: InterestState, changed: Changed, room: int) -> tuple[Outgoing, int]:
    """Return the record of a changed state, and how many events of the sequence were left out of it to fit.

    The oldest events are left out, and at least the newest one stays; where that is not enough, so are the items seen
    before. Everything else says what is true of the whole state. A position in `new` whose event was left out is one of
    an event older than the sequence, as `new` may have.

    Parameters
    ----------
    room
        Bytes that the topic takes in one record, overhead included.
    """
    interest = user_interest(user_id, state, changed)
    record = _encoded(interest, changed)
    left_out, last = 0, len(state.sequence) - 1
    while (excess := size_of(record) - room) > 0 and left_out < last:
        while excess > 0 and left_out < last:
            excess -= len(_encoder.encode(state.sequence[left_out])) + 1  # and a comma
            left_out += 1
        record = _encoded(msgspec.structs.replace(interest, sequence=state.sequence[left_out:]), changed)
    if size_of(record) > room and interest.seen_before:
        least = msgspec.structs.replace(interest, sequence=state.sequence[left_out:], seen_before=[])
        record = _encoded(least, changed)
    return record, left_out


def _encoded(interest: UserInterest, changed: Changed) -> Outgoing:
    return Outgoing(USER_INTERESTS, interest.user_id.encode(), _encoder.encode(interest), changed.headers)


def user_interest(user_id: str, state: InterestState, changed: Changed) -> UserInterest:
    """Return what is said of a state that has events."""
    interest = summarise(state)
    transitions = category_transitions(state.sequence)
    return UserInterest(
        user_id=user_id,
        # not the version of the write: a store that came back older would begin again at a lower one
        state_version=state.content_version,
        event_time_ms=state.sequence[-1].event_time_ms,
        produced_at_ms=changed.produced_at_ms,
        sequence=state.sequence,
        new=changed.new,
        short_term=dict(_strongest(interest.short_term, _itself)),
        long_term=dict(_strongest(interest.long_term, max)),
        long_term_items=dict(_strongest(interest.long_term_items, max)),
        transitions=[(*step, count) for step, count in _strongest(transitions, _itself)],
        events_count=state.events_count,
        seen_before=state.seen_before(),
    )


def _itself(weight: float) -> float:
    return weight


def _strongest(weights: dict[K, T], strength: Callable[[T], float]) -> list[tuple[K, T]]:
    """Return the strongest first; of equal ones the one that came first."""
    if len(weights) <= 1:
        return list(weights.items())
    return sorted(weights.items(), key=lambda pair: strength(pair[1]), reverse=True)[:SUMMARY_SIZE]
