"""Streams of `user-interests` for tests: seeded users who walk through items of a few themes."""

from __future__ import annotations

import random

from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.feedback import WEIGHTS, signed
from streamrec.domain.interest import FoldRules, InterestState

START_MS = 1_760_000_000_000
THEMES = 4
ITEMS_PER_THEME = 25


def stream(
    events: int, *, seed: int = 0, users: int = 30, first_offset: int = 0, loyalty: float = 0.9
) -> list[UserInterest]:
    """Fold a seeded stream, one interest for each event; a user stays within a theme, by default most of the time."""
    draw = random.Random(seed)
    states: dict[str, InterestState] = {}
    interests = []
    for offset in range(first_offset, first_offset + events):
        user = draw.randrange(users)
        theme = user % THEMES if draw.random() < loyalty else draw.randrange(THEMES)
        item = f"{theme}-{min(int(draw.expovariate(0.2)), ITEMS_PER_THEME - 1)}"
        event_type = EventType.PURCHASE if draw.random() < 0.1 else EventType.CLICK
        event = Event(
            f"u{user}", item, START_MS + 1_000 * offset, Source(event_type, 0), offset, None, f"theme {theme}"
        )
        interests.append(fold(states.setdefault(event.user_id, InterestState()), event))
    return interests


def fold(state: InterestState, event: Event, *, sequence_length: int = 20) -> UserInterest:
    """Fold one event, and return what `interests` would say of it."""
    state.fold(event, FoldRules(sequence_length))
    state.version += 1
    sequence = list(signed(state.sequence, WEIGHTS))
    return UserInterest(
        user_id=event.user_id,
        state_version=state.version,
        event_time_ms=state.sequence[-1].event_time_ms,
        produced_at_ms=event.event_time_ms,
        sequence=sequence,
        new=[EventPosition(event.source.event_type, event.source.partition, event.offset)],
        short_term={},
        long_term={},
        long_term_items={},
        transitions=[],
        events_count=state.events_count,
        disliked_before=state.disliked_before(sequence),
    )
