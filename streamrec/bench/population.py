"""Synthetic data for benchmarks: users with histories, a catalogue, and a model trained on both, from a seed.

The defaults have the size of the news stream of Globo.com (Moreira et al. 2018): 300,000 users with nine events each on
average, 46,000 items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from streamrec.adapters.redis import RedisInterestStore
from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.domain.event import Event, EventType, Source
from streamrec.domain.interest import DAY_MS, FoldRules, InterestState
from streamrec.model.training.trainer import Trainer
from streamrec.service.admission import MAX_WAITING_EVENTS
from streamrec.service.ports import InterestSnapshot
from streamrec.settings import Settings

CLUSTER_ITEMS = 200
"""Number of clusters of similar items; half of a user's events are in one cluster."""

HISTORY_DAYS = 14

TAUGHT_USERS = 12_000
"""Number of users that the model is trained on; together they have seen every item."""

_USERS_AT_A_TIME = 1_000

Report = Callable[[int], None]


_NOWHERE = Source(EventType.CLICK, 1_000_000)
"""A partition that does not exist: the histories were never on a broker."""


@dataclass(frozen=True, slots=True)
class Population:
    """Users and items.

    Parameters
    ----------
    users, items
        Number of users and items.
    mean_history
        Mean number of events per user before the measurement, at least one; geometrically distributed.
    full_histories
        Whether every user has a full sequence instead.
    seed
        Random seed.
    """

    users: int
    items: int
    mean_history: float
    full_histories: bool
    seed: int

    def draw_items(self, user: int | np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """Sample items that a user, or each of several users, is interested in, `(count,)`.

        Popular items are more likely.
        """
        anywhere = self._popular(self.items, count, rng)
        cluster = user * 7_919 % max(1, self.items // CLUSTER_ITEMS) * CLUSTER_ITEMS
        near = (cluster + self._popular(CLUSTER_ITEMS, count, rng)) % self.items
        drawn: np.ndarray = np.where(rng.random(count) < 0.5, near, anywhere)
        return drawn

    def histories(self, settings: Settings, now_ms: int) -> Iterator[tuple[str, InterestState]]:
        """Return the interest state of each user before the measurement."""
        rng = np.random.default_rng(self.seed)
        for user in range(self.users):
            length = settings.sequence_length if self.full_histories else int(rng.geometric(1 / self.mean_history))
            share = self._share_of_items(user)
            items = np.concatenate([share, self.draw_items(user, max(0, length - len(share)), rng)])
            length = len(items)
            times_ms = now_ms - np.sort(rng.integers(0, HISTORY_DAYS * DAY_MS, length))[::-1]
            state = InterestState()
            for place, (item, time_ms) in enumerate(zip(items.tolist(), times_ms.tolist(), strict=True)):
                event = Event(user_name(user), item_name(item), time_ms, _NOWHERE, place)
                state.fold(event, FoldRules(settings.sequence_length))
            yield user_name(user), state

    def _share_of_items(self, user: int) -> np.ndarray:
        """Return the items that a training user must have seen, so that together they cover every item."""
        taught = min(self.users, TAUGHT_USERS)
        share: np.ndarray = np.arange(user, self.items if user < taught else 0, taught)
        return share

    def _popular(self, items: int, count: int, rng: np.random.Generator) -> np.ndarray:
        """Sample from a Zipf-like distribution over `items`."""
        drawn: np.ndarray = (items ** rng.random(count) - 1).astype(np.int64)
        return drawn


def user_name(user: int) -> str:
    """Return the id of a user."""
    return f"user-{user}"


def item_name(item: int) -> str:
    """Return the id of an item."""
    return f"item-{item}"


def settle(population: Population, settings: Settings, *, now_ms: int, report: Report) -> None:
    """Write the states of a population into the store, and a checkpoint of a model that has learned its items."""
    store = RedisInterestStore(settings.require_redis_url(), state_ttl_days=settings.state_ttl_days)
    trainer = Trainer.open(settings)
    states: dict[str, InterestState] = {}
    for number, (user_id, state) in enumerate(population.histories(settings, now_ms), start=1):
        states[user_id] = state
        report(number)
        if len(states) < _USERS_AT_A_TIME and number < population.users:
            continue
        store.compare_and_set(InterestSnapshot(states, {}))
        if number <= TAUGHT_USERS:
            # as with a long backlog: everything is counted, and a part of it trained on
            trainer.train([_lesson(user_id, state) for user_id, state in states.items()], behind=MAX_WAITING_EVENTS)
        states = {}
    trainer.take_update()  # a checkpoint belongs to a version
    trainer.save(b"")
    trainer.wait_until_saved()


def _lesson(user_id: str, state: InterestState) -> UserInterest:
    """Return a state as an interest record in which all events are new."""
    return UserInterest(
        user_id=user_id,
        state_version=1,
        event_time_ms=state.sequence[-1].event_time_ms,
        produced_at_ms=state.sequence[-1].event_time_ms,
        sequence=list(state.sequence),
        new=[EventPosition(event.event_type, event.partition, event.offset) for event in state.sequence],
        short_term={},
        long_term={},
        long_term_items={},
        transitions=[],
        events_count=state.events_count,
    )
