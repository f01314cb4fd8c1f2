"""Incremental training: every micro-batch is first a test of what serves, then a lesson.

A step (1) tests what serves on some of the new events and lets the blend learn from them, (2) counts all of them,
(3) trains the sequence model on them and on replayed sequences. What changed since the last version becomes the next.
"""

from __future__ import annotations

import json
import math
import os
import random
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import structlog
import torch

from streamrec.contracts.derived import UserInterest
from streamrec.contracts.incoming import Item
from streamrec.domain.interest import SequenceEvent
from streamrec.errors import StreamrecError
from streamrec.model import checkpoint
from streamrec.model.candidates import encode
from streamrec.model.content import content_buckets
from streamrec.model.context import make_context
from streamrec.model.items import Items
from streamrec.model.learner import Learner
from streamrec.model.micro_batch import UserHistory, by_user, pad
from streamrec.model.reservoir import Entry, Reservoir
from streamrec.model.sequence_model import ModelConfig
from streamrec.model.serving import ServingModel, dense_shape
from streamrec.model.stacking import Stacking
from streamrec.model.tensors import Arrays, below, prefixed, weights_of
from streamrec.model.updates import as_sent, to_records
from streamrec.settings import Settings

TESTED_SHARE = {0: 0.4, 512: 0.2, 4_096: 0.05}
"""Share of the new events that what serves is tested on and the blend learns from, by the number of events that wait
behind a step; to rank for one costs about a millisecond."""

TESTED_TOGETHER = 8
"""Events of one step of the blend: many small steps learn sooner than few large ones."""

MAX_SEQUENCES = 128
"""Sequences of one gradient step."""

VISITS = {0: 2.0, 512: 1.0, 4_096: 0.25}
"""How often a step visits each sequence with new events, by the number of events that wait behind it. Below one, some
are only counted for now and trained when they are replayed."""

TRAINED_LENGTH = 32
"""Newest events of a sequence in a gradient step: a longer one costs much more, and teaches little."""

REPLAY_SHARE = 0.5
"""Replayed sequences for each fresh one."""

DRIFT_EFFORT = 2
DRIFT_STEPS = 50
"""When the loss on new events has changed, so many steps take so many times the effort, if nothing waits."""

PUBLISHED_DISTANCE = 0.03
"""A unit vector that is nearer than this to the published one is not sent again."""

DENSE_EVERY = 8
"""Versions from one with the network's weights to the next: an average over many steps, it changes slowly."""

MAX_CATALOGUE = 1_000_000
"""Items of the catalogue that are remembered; beyond it the one that came first is forgotten."""

SNAPSHOT_INTERVAL_MS = 3_600_000
"""A snapshot comes at least so often while events arrive, well within what `model-updates` keeps."""

SNAPSHOT_SHARE = 2.0
"""A snapshot also comes when the versions since the last one outweigh it so much: reading all stays cheap."""

_log = structlog.get_logger(__name__)


class Trainer:
    """Learns from interests; see :class:`streamrec.service.ports.Trainer`.

    Parameters
    ----------
    config
        Shape of the network.
    hide_seen
        Whether lists hide what is in the user's sequence.
    device
        Where the network trains.
    checkpoints
        Directory of the checkpoints; the newest one in it is where this trainer goes on.
    seed
        Seeds every draw: the same interests in the same steps give the same model.

    Raises
    ------
    StreamrecError
        If the newest checkpoint is damaged, or of a network of another shape.
    """

    def __init__(
        self, config: ModelConfig, *, hide_seen: bool, device: torch.device, checkpoints: Path, seed: int = 0
    ) -> None:
        self.config = config
        self.checkpoints = checkpoints
        self.items = Items()
        self.learner = Learner(config, device=device, seed=seed)
        self.stacking = Stacking(hide_seen=hide_seen, seed=seed)
        self.reservoir = Reservoir()
        self.random = random.Random(seed)  # noqa: S311  # a reproducible sample, no secret
        self.serving = ServingModel()
        self.admissions = b""
        self.lineage = uuid.uuid4().hex[:8]
        """Names the versions of this process: a restart may learn otherwise from the same checkpoint."""
        self.versions = 0
        self.newest_produced_at_ms = 0
        self._moved: set[int] = set()
        """Rows whose vectors changed since the last version."""
        self._drift_steps_left = 0
        self._catalogue: dict[str, Item] = {}
        self._told: dict[str, None] = {}
        """Known items that the catalogue spoke of since the last step."""
        self._snapshot_at_ms = 0
        self._snapshot_bytes = self._delta_bytes = 0
        self._unsent: list[bytes] = []
        saved = checkpoint.read_newest(checkpoints)
        if saved is not None:
            self._restore(*saved)
            self._unsent = self.take_update()

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Return a trainer that goes on from the newest checkpoint, or a new one."""
        cuda = torch.cuda.is_available() if settings.model_device == "auto" else settings.model_device == "cuda"
        torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
        config = ModelConfig(dim=settings.embedding_dim, max_length=settings.sequence_length)
        return cls(
            config,
            hide_seen=settings.hide_seen,
            device=torch.device("cuda" if cuda else "cpu"),
            checkpoints=settings.data_dir.expanduser() / "model",
        )

    def put_item(self, item: Item) -> None:
        """Learn what the catalogue says of an item; any one thread may call it."""
        self._catalogue[item.item_id] = item
        if len(self._catalogue) > MAX_CATALOGUE:
            del self._catalogue[next(iter(self._catalogue))]
        if self.items.vocabulary.row(item.item_id):
            self._told[item.item_id] = None

    def delete_item(self, item_id: str) -> None:
        """Forget what the catalogue says of an item; the same thread may call it."""
        self._catalogue.pop(item_id, None)

    def train(self, interests: Sequence[UserInterest], *, behind: int) -> None:
        """Learn the `new` events of each interest; with many events behind them, with less effort on each."""
        self._hear()
        histories = by_user(interests)
        self._count(histories, self._test(histories, behind))
        self._fit(histories, behind)
        self.newest_produced_at_ms = max(
            [self.newest_produced_at_ms, *(interest.produced_at_ms for interest in interests)]
        )

    def take_update(self) -> list[bytes]:
        """Return the records of `model-updates` that tell what was learned since the last call, perhaps none."""
        if self._unsent:
            records, self._unsent = self._unsent, []
            return records
        since_ms = self.newest_produced_at_ms - self._snapshot_at_ms
        everything = (
            not self.serving.version
            or self._delta_bytes > SNAPSHOT_SHARE * self._snapshot_bytes
            or since_ms > SNAPSHOT_INTERVAL_MS
        )
        if self.serving.version and not (self.items.counted or self.items.renamed):
            return []
        changes = as_sent(self._everything() if everything else self._changes())
        self.versions += 1
        base, version = "" if everything else self.serving.version, f"{self.lineage}-{self.versions}"
        self.serving = (ServingModel() if everything else self.serving).applied(version, changes, in_place=True)
        records = to_records("snapshot" if everything else "delta", version, base, self.newest_produced_at_ms, changes)
        size = sum(map(len, records))
        if everything:
            self._snapshot_at_ms, self._snapshot_bytes, self._delta_bytes = self.newest_produced_at_ms, size, 0
        else:
            self._delta_bytes += size
        return records

    def save(self, admissions: bytes) -> None:
        """Write a checkpoint of all that was learned, atomically, with the caller's own record of it."""
        rows = len(self.items)
        tensors = {
            **prefixed("items", self.items.state()),
            **prefixed("learner", self.learner.state(rows)),
            **prefixed("stacking", self.stacking.state()),
        }
        own = {
            "shape": dense_shape(self.config).tolist(),
            "newest_produced_at_ms": self.newest_produced_at_ms,
            "offered": self.reservoir.offered,
            "random": self.random.getstate(),
        }
        documents = {
            "admissions": admissions,
            "replay": msgspec.json.encode(self.reservoir.entries),
            "trainer": msgspec.json.encode(own),
        }
        path = checkpoint.write(self.checkpoints, tensors, documents)
        _log.info("checkpoint", path=str(path), items=self.items.vocabulary.live_items)

    def _restore(self, tensors: Arrays, documents: dict[str, bytes]) -> None:
        """Become what was saved."""
        own = json.loads(documents["trainer"])
        if own["shape"] != dense_shape(self.config).tolist():
            raise StreamrecError(
                f"the newest checkpoint in {self.checkpoints} is of a network of shape {own['shape']}, not "
                f"{dense_shape(self.config).tolist()}: restore STREAMREC_EMBEDDING_DIM and STREAMREC_SEQUENCE_LENGTH, "
                "or move the directory away to begin anew"
            )
        self.items.load(below("items", tensors))
        self.learner.load(below("learner", tensors))
        self.stacking.load(below("stacking", tensors))
        self.reservoir.load(msgspec.json.decode(documents["replay"], type=list[Entry]), own["offered"])
        version, numbers, gauss = own["random"]
        self.random.setstate((version, tuple(numbers), gauss))
        self.newest_produced_at_ms = own["newest_produced_at_ms"]
        self.admissions = documents["admissions"]

    def _everything(self) -> Arrays:
        rows = np.arange(1, len(self.items))
        self._moved = set()
        return {
            **self.items.changes(everything=True),
            **self.stacking.changes(),
            **self._dense(),
            "vector_rows": rows,
            "vectors": self.learner.vectors(rows),
        }

    def _changes(self) -> Arrays:
        moved = np.array(sorted(self._moved), np.int64)
        vectors = self.learner.vectors(moved)
        known = moved < self.serving.size
        far = np.ones(len(moved), bool)
        far[known] = np.linalg.norm(vectors[known] - self.serving.vectors[moved[known]], axis=1) > PUBLISHED_DISTANCE
        # what stays near waits until it has come far enough: most rows of a step are negatives that hardly move
        self._moved = set(moved[~far].tolist())
        return {
            **self.items.changes(everything=False),
            **self.stacking.changes(),
            **(self._dense() if self.versions % DENSE_EVERY == 0 else {}),
            "vector_rows": moved[far],
            "vectors": vectors[far],
        }

    def _dense(self) -> Arrays:
        return {"dense_shape": dense_shape(self.config), **prefixed("dense", weights_of(self.learner.average))}

    def _hear(self) -> None:
        """Take in what the catalogue said of known items since the last step."""
        while self._told:
            item_id, _ = self._told.popitem()
            row, item = self.items.vocabulary.row(item_id), self._catalogue.get(item_id)
            if row and item is not None:
                self.items.set_category(row, item.category or "")
                self.learner.buckets[row] = content_buckets(item.category or "", item.title or "")
                self._moved.add(row)

    def _begin(self, row: int, event: SequenceEvent, expected: np.ndarray | None) -> None:
        """Start a new item from what it is made of and from where the model expected its first user to go."""
        item = self._catalogue.get(event.item_id)
        category = (item and item.category) or event.category
        self.items.set_category(row, category)
        self.learner.add_item(row, content_buckets(category, (item and item.title) or ""), expected)
        self._moved.add(row)

    def _test(self, histories: Sequence[UserHistory], behind: int) -> dict[tuple[int, int], np.ndarray]:
        """Test what serves, let the blend learn, and return where the model expected the first events of new items."""
        events = [(place, index) for place, history in enumerate(histories) for index in history.new]
        tested = set(self.random.sample(events, math.ceil(_at(TESTED_SHARE, behind) * len(events))))
        row_of = self.items.vocabulary.row
        wanted = [
            (place, index)
            for place, index in events
            if (place, index) in tested or (index and not row_of(histories[place].sequence[index].item_id))
        ]
        contexts = [make_context(self.serving, histories[place].sequence[:index]) for place, index in wanted]
        hidden = encode(self.serving, contexts)
        chosen = [at for at, event in enumerate(wanted) if event in tested]
        for start in range(0, len(chosen), TESTED_TOGETHER):
            together = chosen[start : start + TESTED_TOGETHER]
            self.stacking.learn(
                self.serving,
                [contexts[at] for at in together],
                hidden[together],
                [self.serving.row(histories[wanted[at][0]].sequence[wanted[at][1]].item_id) for at in together],
            )
        return {event: vector for event, vector in zip(wanted, hidden, strict=True) if vector.any()}

    def _count(self, histories: Sequence[UserHistory], expected: dict[tuple[int, int], np.ndarray]) -> None:
        """Let everything that is counted take in the new events."""
        rows, times_ms = [], []
        for place, history in enumerate(histories):
            for index in history.new:
                event = history.sequence[index]
                row, is_new = self.items.observe(history.sequence, index)
                if is_new:
                    self._begin(row, event, expected.get((place, index)))
                rows.append(row)
                times_ms.append(event.event_time_ms)
            self.reservoir.offer(history.user_id, history.sequence, self.random)
        self.items.popularity.add_many(np.array(rows, np.int64), np.array(times_ms, np.int64))
        self.learner.recent.extend(rows)

    def _fit(self, histories: Sequence[UserHistory], behind: int) -> None:
        """Train the sequence model on the new events and on replayed sequences, as often as the time allows."""
        fresh = [(history.sequence, history.new) for history in histories if history.new[-1] > 0]
        left = round(self._visits(behind) * len(fresh))
        while left > 0:
            self.random.shuffle(fresh)
            for start in range(0, min(left, len(fresh)), MAX_SEQUENCES):
                self._visit(fresh[start : min(start + MAX_SEQUENCES, left)])
            left -= len(fresh)

    def _visits(self, behind: int) -> float:
        """Return how often to visit each sequence."""
        if self.stacking.drifted:
            self._drift_steps_left = DRIFT_STEPS
            _log.info("drift", loss=round(self.stacking.recent_loss, 3))
        visits = _at(VISITS, behind)
        if behind or not self._drift_steps_left:
            return visits
        self._drift_steps_left -= 1
        return DRIFT_EFFORT * visits

    def _visit(self, fresh: list[tuple[list[SequenceEvent], list[int]]]) -> None:
        """Make one gradient step on fresh sequences and some that are replayed."""
        replay = self.reservoir.sample(round(REPLAY_SHARE * len(fresh)), self.random)
        row_of = self.items.vocabulary.row
        batch = fresh + [(entry.sequence, []) for entry in replay]
        padded = pad(
            [(sequence, new, [row_of(event.item_id) for event in sequence]) for sequence, new in batch],
            min(self.config.max_length, TRAINED_LENGTH),
        )
        self._moved.update(self.learner.train(padded, len(self.items)).tolist())


def _at(effort: dict[int, float], behind: int) -> float:
    """Return the effort for a number of events that wait."""
    return next(share for least, share in reversed(effort.items()) if behind >= least)
