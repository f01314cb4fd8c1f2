"""Maximum sizes of derived records by the settings, compared with the record size limits of their topics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from streamrec.contracts.derived import EventPosition, TopKList, UserInterest
from streamrec.contracts.incoming import MAX_ID_CHARACTERS
from streamrec.contracts.listed_items import MAX_CHANNELS, MAX_LEADS, ListedItems
from streamrec.contracts.model_update import MAX_PART_BYTES
from streamrec.contracts.topics import (
    BROKER_MAX_MESSAGE_BYTES,
    EVENT_TOPICS,
    IMPRESSIONS,
    ITEMS,
    MODEL_UPDATES,
    RECOMMENDATIONS,
    USER_INTERESTS,
    dead_letter_topic,
)
from streamrec.domain.event import EventType
from streamrec.domain.event_context import CONTEXT_CODES, MAX_CONTEXT_KEYS
from streamrec.domain.interest import DISLIKED_ITEMS, SequenceEvent
from streamrec.domain.seen import SEEN_ITEMS
from streamrec.errors import UnfitServerError
from streamrec.service.interest_record import SUMMARY_SIZE
from streamrec.service.ports import Outgoing, Publisher
from streamrec.service.record_size import size_of

PLAIN, UNICODE, ESCAPED = "x", "\N{MUSICAL SYMBOL G CLEF}", "\x01"
"""Characters of one, four and six bytes in JSON."""

MAX_NEW_EVENTS = 1_000
"""Maximum number of records in a batch."""

MAX_HIDDEN_ITEMS = 1_000 + SEEN_ITEMS + DISLIKED_ITEMS
"""Maximum number of hidden items of a list: the longest sequence, plus items seen or disliked before it."""

LETTER_BYTES = 8_192
"""The smallest useful dead letter: the reason and the beginning of the record."""

_PART_BYTES = MAX_PART_BYTES * 4 // 3 + 32_768
"""A part of a model version in base64 plus its metadata, most of which is positions of 1,024 partitions."""

_WEIGHT = -123.45678901234567
_TIME_MS = 253_402_300_799_999
_TRACE = {"traceparent": bytes(512), "tracestate": bytes(512)}

_encoder = msgspec.json.Encoder()


class Need(NamedTuple):
    """A required record size limit of a topic.

    Parameters
    ----------
    topic
        Its name.
    room
        Bytes, overhead included.
    because
        The setting that requires it; empty if none does.
    """

    topic: str
    room: int
    because: str = ""


def needs_of_interests(sequence_length: int, *, hide_seen: bool = False) -> list[Need]:
    """Return the limits that the `interests` worker requires: with less, sequences of ordinary users lose events."""
    seen = SEEN_ITEMS if hide_seen else 0
    room = max(largest_interest(sequence_length, PLAIN, seen), largest_interest(1, ESCAPED, seen))
    letters = [Need(dead_letter_topic(topic), LETTER_BYTES) for topic in EVENT_TOPICS]
    return [Need(USER_INTERESTS, room, "sequence_length"), *letters]


def needs_of_recall(top_k: int) -> list[Need]:
    """Return the limits that the `recall` worker requires: with less, lists of ordinary items are truncated."""
    return [Need(RECOMMENDATIONS, max(largest_list(top_k, PLAIN), largest_list(1, ESCAPED)), "top_k")]


def needs_of_trainer() -> list[Need]:
    """Return the limits that the `trainer` worker requires."""
    return [Need(MODEL_UPDATES, _PART_BYTES)]


def needs_of_retention() -> list[Need]:
    """Return the limits that the `retention` worker requires."""
    return [Need(dead_letter_topic(topic), LETTER_BYTES) for topic in (IMPRESSIONS, ITEMS)]


def created_limits(sequence_length: int, top_k: int, *, hide_seen: bool = False) -> dict[str, int]:
    """Return `max.message.bytes` of topics that are created with more than the broker's default: all ids fit then."""
    wanted = {
        USER_INTERESTS: largest_interest(sequence_length, UNICODE, SEEN_ITEMS if hide_seen else 0),
        RECOMMENDATIONS: largest_list(top_k, UNICODE),
    }
    return {topic: room for topic, room in wanted.items() if room > BROKER_MAX_MESSAGE_BYTES}


def require_room(publisher: Publisher, needs: Iterable[Need]) -> None:
    """Verify that the topics' record size limits suffice for the settings.

    Raises
    ------
    UnfitServerError
        If one is too small; the message says what to set.
    TransientError
        If the broker does not answer.
    """
    for need in needs:
        if (room := publisher.room(need.topic)) < need.room:
            setting = f", or set STREAMREC_{need.because.upper()} lower" if need.because else ""
            raise UnfitServerError(
                f"Kafka: {need.topic} limits records to {room:,} bytes, but {need.room:,} are needed: "
                f"set max.message.bytes of the topic to {need.room} or more{setting}"
            )


def largest_interest(sequence_length: int, character: str, seen_items: int = 0) -> int:
    """Return the size of the largest `user-interests` record with ids and categories of one character, in bytes."""
    longest = character * MAX_ID_CHARACTERS
    names = [f"{n:02}{longest[2:]}" for n in range(SUMMARY_SIZE)]
    context = (CONTEXT_CODES,) * MAX_CONTEXT_KEYS
    event = SequenceEvent(_TIME_MS, -EventType.RETURN, 1_023, 1 << 53, longest, longest, context)
    message = UserInterest(
        user_id=longest,
        state_version=_TIME_MS * 4_096,
        event_time_ms=_TIME_MS,
        produced_at_ms=_TIME_MS,
        sequence=[event] * sequence_length,
        new=[EventPosition(EventType.RETURN, 1_023, 1 << 53)] * MAX_NEW_EVENTS,
        short_term=dict.fromkeys(names, _WEIGHT),
        long_term=dict.fromkeys(names, [_WEIGHT] * 3),
        long_term_items=dict.fromkeys(names, [_WEIGHT] * 3),
        transitions=[(longest, longest, sequence_length)] * SUMMARY_SIZE,
        events_count=1 << 53,
        seen_before=[longest] * seen_items,
        disliked_before=[longest] * DISLIKED_ITEMS,
    )
    return size_of(Outgoing(USER_INTERESTS, longest.encode(), _encoder.encode(message), _TRACE))


def largest_list(top_k: int, character: str) -> int:
    """Return the size of the largest list with ids of one character, in bytes."""
    longest = character * MAX_ID_CHARACTERS
    topk = TopKList(
        state_version=_TIME_MS * 4_096,
        list_id=longest,
        user_id=longest,
        items=ListedItems(
            ids=[longest] * top_k,
            scores=bytes(2 * top_k),
            reasons=bytes(2 * top_k),
            channels=["x" * 32] * MAX_CHANNELS,
            leads=[longest] * min(MAX_LEADS, top_k),
            priors=bytes(2 * top_k),
        ),
        model_version=longest,
        arm="personal",
        event_time_ms=_TIME_MS,
        produced_at_ms=_TIME_MS,
        made_at_ms=_TIME_MS,
        rebuilt=True,
        hidden=bytes(4 * MAX_HIDDEN_ITEMS),
    )
    return size_of(Outgoing(RECOMMENDATIONS, longest.encode(), _encoder.encode(topk), _TRACE))
