"""Checks that every recall channel passes, for this package's channels and for those of others.

A package that offers a channel runs them in its own tests:

    @pytest.mark.parametrize("check", checks("newest"), ids=str)
    def test_the_channel(check):
        check()
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.contracts.incoming import Item
from streamrec.domain.event_context import MAX_CONTEXT_KEYS
from streamrec.domain.interest import SequenceEvent
from streamrec.model.network.config import ModelConfig
from streamrec.model.ranking.candidates import Described, encode, find
from streamrec.model.ranking.context import Context, make_context
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.ranking.updates import UpdateReader, to_records
from streamrec.model.retrievers.channels import DEFAULT, channel
from streamrec.model.retrievers.retriever import Lesson, Retrieval, Retriever
from streamrec.model.tables.catalogue import Catalogue
from streamrec.model.tensors import Arrays
from streamrec.model.training.guard import Guard
from streamrec.model.training.online_model import OnlineModel
from streamrec.model.training.rules import Rules
from streamrec.service.fence import Fences

START_MS = 1_760_000_000_000
BATCH = 40
USERS = 30
THEMES, ITEMS_PER_THEME = 4, 25
LENGTH = 20
LARGEST = 20.0
"""Features are of the order of 1; one beyond this would drown the others."""


@dataclass(frozen=True)
class Check:
    """A check of one channel; raises `AssertionError` if it fails."""

    of: partial[None]

    def __call__(self) -> None:
        """Run it."""
        self.of()

    def __str__(self) -> str:
        """Return its name."""
        return self.of.func.__name__


def checks(name: str) -> list[Check]:
    """Return the checks of a channel, by its name in `STREAMREC_CHANNELS`."""
    return [Check(partial(check, name)) for check in _CHECKS]


class _Seen(NamedTuple):
    """What a channel contributes to a version's candidates."""

    retriever: Retriever
    retrieval: Retrieval
    retrieved: Described


class _Trainer:
    """Learns a stream with the default channels and this one, and makes versions."""

    def __init__(self, name: str) -> None:
        rules = Rules(hide_seen=False, channels=list(dict.fromkeys([*DEFAULT, name])))
        config = ModelConfig(dim=16, max_length=LENGTH)
        self.model = OnlineModel(config, rules, device=torch.device("cpu"), catalogue=_catalogue())
        self.records: list[bytes] = []
        self._guard = Guard(hide_seen=False)

    def learn(self, interests: Sequence[UserInterest]) -> None:
        """Learn interests in micro-batches, with a version after each."""
        for start in range(0, len(interests), BATCH):
            self.model.learn(interests[start : start + BATCH], self._guard, Fences(), behind=0)
            _, records = self.model.releases.make(f"v{self.model.events}", self.model.learned(0))
            self.records += records

    def whole(self) -> list[bytes]:
        """Return the records of a version for readers that know nothing."""
        _, records = self.model.releases.make(f"whole-{self.model.events}", self.model.learned(0), whole=True)
        return records


def _catalogue() -> Catalogue:
    """Return the titles of all items."""
    catalogue = Catalogue()
    for theme in range(THEMES):
        for number in range(ITEMS_PER_THEME):
            item = Item(item_id=f"{theme}-{number}", title=f"item {number} of theme {theme} for everyone")
            catalogue.put(item, is_known=False)
    return catalogue


def _interests(events: int, *, users: int = USERS, seed: int = 0) -> list[UserInterest]:
    """Return a stream of users who stay within a theme most of the time, one event each."""
    draw = random.Random(seed)  # noqa: S311  # a reproducible stream, no secret
    sequences: dict[int, list[SequenceEvent]] = {}
    interests = []
    for offset in range(events):
        user = draw.randrange(users)
        theme = user % THEMES if draw.random() < 0.9 else draw.randrange(THEMES)
        item = f"{theme}-{min(int(draw.expovariate(0.2)), ITEMS_PER_THEME - 1)}"
        now_ms = START_MS + 1_000 * offset
        sequence = sequences.setdefault(user, [])
        sequence.append(SequenceEvent(now_ms, 0, 0, offset, item, f"theme {theme}", (1 + user % 3,)))
        interests.append(
            UserInterest(
                user_id=f"u{user}",
                state_version=len(sequence),
                event_time_ms=now_ms,
                produced_at_ms=now_ms,
                sequence=sequence[-LENGTH:],
                new=[EventPosition(0, 0, offset)],
                short_term={},
                long_term={},
                long_term_items={},
                transitions=[],
                events_count=len(sequence),
            )
        )
    return interests


def _read(records: Sequence[bytes], model: ServingModel | None = None) -> ServingModel:
    """Return the version that a reader of these records has in the end."""
    reader, model = UpdateReader(), model or ServingModel()
    for record in records:
        model = reader.apply(record, model) or model
    return model


def _contexts(model: ServingModel) -> list[Context]:
    """Return users with a sequence, without one, and with unknown items only."""
    latest = {interest.user_id: interest.sequence for interest in _interests(400)}
    unknown = [SequenceEvent(START_MS, 0, 0, 0, "unknown", "no theme")]
    return [make_context(model, sequence) for sequence in [*latest.values(), [], unknown]]


def _see(name: str, model: ServingModel, *, withdrawn: np.ndarray | None = None) -> _Seen:
    """Return what a channel of a version finds and says of users."""
    contexts = _contexts(model)
    retrieved = find(model, contexts, encode(model, contexts), withdrawn=withdrawn)
    number = [each.name for each in model.retrievers].index(name)
    return _Seen(model.retrievers[number], retrieved.retrievals[number], retrieved)


def _same(one: _Seen, other: _Seen, tolerance: float = 1e-5) -> None:
    assert np.array_equal(one.retrieval.found.rows, other.retrieval.found.rows), "other candidates"
    assert np.array_equal(one.retrieval.found.ends, other.retrieval.found.ends), "other candidates"
    assert np.allclose(one.retrieval.features, other.retrieval.features, atol=tolerance), "other features"


def _learned(name: str, events: int = 400) -> _Trainer:
    trainer = _Trainer(name)
    trainer.learn(_interests(events))
    return trainer


def names_are_usable(name: str) -> None:
    """Check that names of the channel and of its features are unique, and that its arrays carry its name."""
    retriever = channel(name)
    assert retriever.name == name, "the entry point has another name"
    assert re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", name), "not a name for settings and reasons"
    model = _learned(name, BATCH).model
    features = model.stacking.blend.features
    assert len(set(features)) == len(features), "another channel has a feature of this name"
    assert set(retriever.prior) <= set(retriever.features), "a prior of a feature that it does not add"
    for array in _changes(model, name, everything=True):
        assert array.startswith(name), f"{array} does not begin with {name}"


def candidates_are_rows(name: str) -> None:
    """Check that candidates are rows of the version."""
    model = _read(_learned(name).records)
    found = _see(name, model).retrieval.found
    assert found.ends[-1] == len(found.rows)
    assert (np.diff(found.ends, prepend=0) >= 0).all(), "ends that descend"
    assert ((found.rows >= 0) & (found.rows < model.size)).all(), "rows that the version does not have"
    assert len(found.rows) or channel(name).features, "no candidate for any user, and no feature"


def features_are_numbers_of_the_order_of_one(name: str) -> None:
    """Check that features are finite and small, for users with and without events."""
    seen = _see(name, _read(_learned(name).records))
    assert seen.retrieval.features.shape[0] == len(seen.retriever.features)
    assert np.isfinite(seen.retrieval.features).all()
    assert np.abs(seen.retrieval.features).max(initial=0.0) < LARGEST


def reasons_name_the_users_own_items(name: str) -> None:
    """Check that strengths are between 0 and 1, and that leads are items of the user's sequence."""
    seen = _see(name, _read(_learned(name).records))
    retriever, retrieval, retrieved = seen
    every = np.arange(len(retrieved.features))
    strengths, leads = retriever.explains(retrieval, every), retriever.leads(retrieval, every)
    assert strengths is None or ((strengths >= 0) & (strengths <= 1)).all()
    for user, context in enumerate(_contexts(_read(_learned(name).records))):
        its = retrieved.candidates.users == user
        assert leads is None or set(leads[its].tolist()) <= {0, *context.rows.tolist()}


def the_same_stream_teaches_the_same(name: str) -> None:
    """Check that two trainers that learned the same make the same version."""
    _same(_see(name, _read(_learned(name).records)), _see(name, _read(_learned(name).records)))


def a_checkpoint_holds_everything(name: str) -> None:
    """Check that a restored trainer continues as if it had never stopped."""
    first, second = _interests(400)[:200], _interests(400)[200:]
    undisturbed, restored = _Trainer(name), _Trainer(name)
    undisturbed.learn(first)
    undisturbed.whole()
    restored.model.load(*undisturbed.model.state())
    restored.whole()
    for trainer in (undisturbed, restored):
        trainer.learn(second)
    # vectors that hardly moved are not published again, but all are after a restart
    _same(_see(name, _read(undisturbed.whole())), _see(name, _read(restored.whole())), tolerance=0.1)


def a_snapshot_says_what_the_deltas_say(name: str) -> None:
    """Check that a reader of all changes and one that begins with a snapshot have the same version."""
    trainer = _learned(name)
    followed, whole = _read(trainer.records), _read(trainer.whole())
    # vectors that hardly moved are not published again
    _same(_see(name, followed), _see(name, whole.with_weights(followed.weights)))


def an_earlier_version_stays_as_it_is(name: str) -> None:
    """Check that the next version does not change what a thread ranks by."""
    trainer = _learned(name)
    version = _read(trainer.records)
    before = _see(name, version)
    known = len(trainer.records)
    trainer.learn(_interests(600)[400:])
    _read(trainer.records[known:], version)
    _same(before, _see(name, version))


def withdrawn_items_are_no_candidates(name: str) -> None:
    """Check that withdrawn items are left out, whatever the channel finds."""
    model = _read(_learned(name).records)
    some = np.unique(_see(name, model).retrieval.found.rows)[:5]
    assert not np.isin(_see(name, model, withdrawn=some).retrieved.candidates.rows, some).any()


def memory_is_bounded(name: str) -> None:
    """Check that the state stops growing after at most 300,000 events of the same users on the same items."""
    teacher = channel(name).teacher(0)
    if teacher is None:
        return
    draw = np.random.default_rng(0)
    users, length = 500, 10
    sizes = []
    for start in range(0, 400_000, users * length):
        teacher.learn(
            Lesson(
                users=np.arange(users),
                ends=length * np.arange(1, users + 1),
                rows=draw.integers(1, THEMES * ITEMS_PER_THEME + 1, users * length),
                event_types=np.zeros(users * length, np.int64),
                times_ms=START_MS + 1_000 * (start + np.arange(users * length)),
                new=np.arange(users * length),
                shares=np.ones(users * length),
                contexts=draw.integers(1, 10, (users * length, MAX_CONTEXT_KEYS)),
            )
        )
        sizes.append(sum(value.nbytes for value in teacher.state().values()))
    assert sizes[-1] <= 1.05 * sizes[3 * len(sizes) // 4 - 1], f"{sizes[-1]:,} bytes after 400,000 events"


def a_delta_is_as_large_as_its_events(name: str) -> None:
    """Check that what a micro-batch changes does not grow with the catalogue."""
    sizes = []
    for others in (1, 20):
        trainer = _Trainer(name)
        for seed in range(others):
            of_theirs = [_renamed(interest, f"{seed}-") for interest in _interests(400, seed=seed)]
            trainer.model.learn(of_theirs, Guard(hide_seen=False), Fences(), behind=0)
        _changes(trainer.model, name, everything=False)
        trainer.model.learn(_interests(BATCH, seed=1), Guard(hide_seen=False), Fences(), behind=0)
        changes = _changes(trainer.model, name, everything=False)
        sizes.append(sum(map(len, to_records("delta", "b", "a", trainer.model.learned(0), changes))))
    assert sizes[1] <= 2 * sizes[0] + 4_096, f"{sizes[0]:,} bytes with 100 items, {sizes[1]:,} with 2,000"


def _renamed(interest: UserInterest, prefix: str) -> UserInterest:
    events = [event._replace(item_id=prefix + event.item_id) for event in interest.sequence]
    return msgspec.structs.replace(interest, sequence=events)


def _changes(model: OnlineModel, name: str, *, everything: bool) -> Arrays:
    teacher = model.teachers.get(name)
    return {} if teacher is None else teacher.changes(len(model.items), everything=everything)


def _state(model: OnlineModel, name: str) -> Arrays:
    teacher = model.teachers.get(name)
    return {} if teacher is None else teacher.state()


_CHECKS = (
    names_are_usable,
    candidates_are_rows,
    features_are_numbers_of_the_order_of_one,
    reasons_name_the_users_own_items,
    the_same_stream_teaches_the_same,
    a_checkpoint_holds_everything,
    a_snapshot_says_what_the_deltas_say,
    an_earlier_version_stays_as_it_is,
    withdrawn_items_are_no_candidates,
    memory_is_bounded,
    a_delta_is_as_large_as_its_events,
)
