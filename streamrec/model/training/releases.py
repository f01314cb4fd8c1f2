"""Makes versions: a delta since the previous one, and periodically a snapshot."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from streamrec.model.network.learner import Learner
from streamrec.model.network.weights import weights_of
from streamrec.model.ranking.blend import blend_for
from streamrec.model.ranking.serving import ServingModel, dense_shape
from streamrec.model.ranking.updates import Learned, as_sent, to_records
from streamrec.model.retrievers.item_vectors import coded
from streamrec.model.retrievers.retriever import Teacher
from streamrec.model.tables.item_counts import ItemCounts
from streamrec.model.tables.vocabulary import pack_ids
from streamrec.model.tensors import Arrays, prefixed
from streamrec.model.training.stacking import Stacking

LOOKED_AT_ROWS = 1_024
"""Rows checked round-robin per version: training a category or word moves all of its items."""

PUBLISHED_DISTANCE = 0.03
"""Minimum distance from the published unit vector for sending it again."""

DENSE_EVERY = 8
"""Interval, in versions, of sending the network's weights, which change slowly as an average over many steps."""

SNAPSHOT_INTERVAL_S = 3_600.0
"""Maximum interval of snapshots while events arrive, well within the retention of `model-updates`."""

SNAPSHOT_SHARE = 2.0
"""A snapshot is also made when the deltas since the last one exceed this multiple of its size: reading all stays
cheap."""


class Releases:
    """Makes versions from the training state, and holds the latest one as readers will see it.

    Parameters
    ----------
    items, learner, stacking
        Training state.
    teachers
        The channels that learn.
    monotonic_s
        Clock for snapshots.
    """

    def __init__(
        self,
        items: ItemCounts,
        learner: Learner,
        stacking: Stacking,
        teachers: Mapping[str, Teacher],
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        retrievers = stacking.retrievers
        self.serving = ServingModel(retrievers=retrievers, blend=blend_for(retrievers))
        self._teachers = teachers
        self._items, self._learner, self._stacking = items, learner, stacking
        self._moved: set[int] = set()
        """Rows whose vectors changed since the last version."""
        self._described: set[int] = set()
        """Rows whose content changed since."""
        self._look_at = 1
        """First row to check for the next version."""
        self._versions = 0
        self._monotonic_s = monotonic_s
        self._snapshot_s = float("-inf")
        self._snapshot_bytes = self._delta_bytes = 0

    def moved(self, rows: Iterable[int]) -> None:
        """Mark rows whose vectors have changed."""
        self._moved.update(rows)

    def described(self, row: int) -> None:
        """Mark a row whose content has changed, and with it the vector."""
        self._moved.add(row)
        self._described.add(row)

    @property
    def is_due(self) -> bool:
        """Whether anything was learned since the last version."""
        if not self.serving.version:
            return len(self._items) > 1
        return bool(self._items.counted or self._items.renamed)

    def make(self, version: str, learned: Learned, *, whole: bool = False) -> tuple[Arrays, list[bytes]]:
        """Make a version, which serves here immediately; return the changes, and the records for readers.

        Current readers apply the delta; new readers apply the snapshot of the same version, if any.

        Parameters
        ----------
        whole
            Whether there is a snapshot in any case.
        """
        begins = not self.serving.version
        complete = begins or whole or self._snapshot_is_due
        with_network = complete or self._versions % DENSE_EVERY == 0
        changes = as_sent(self._everything() if begins else self._changes(with_network=with_network))
        records: list[bytes] = []
        if begins:
            self._moved = set()
        else:
            records += to_records("delta", version, self.serving.version, learned, changes)
            self._delta_bytes += sum(map(len, records))
        if complete:
            everything = changes if begins else self._everything()
            snapshot = to_records("snapshot", version, "", learned, everything)
            self._snapshot_s = self._monotonic_s()
            self._snapshot_bytes, self._delta_bytes = sum(map(len, snapshot)), 0
            records += snapshot
        self._versions += 1
        self.serving = self.serving.applied(version, changes, in_place=True)
        return changes, records

    @property
    def _snapshot_is_due(self) -> bool:
        outweighed = self._delta_bytes > SNAPSHOT_SHARE * self._snapshot_bytes
        return outweighed or self._monotonic_s() - self._snapshot_s > SNAPSHOT_INTERVAL_S

    def _everything(self) -> Arrays:
        rows = np.arange(1, len(self._items))
        return {
            **self._items.changes(everything=True),
            "channels": pack_ids([each.name for each in self.serving.retrievers]),
            **self._taught(everything=True),
            **self._stacking.changes(),
            **self._dense(),
            **self._words(rows),
            **_coded(rows, self._learner.vectors(rows)),
        }

    def _changes(self, *, with_network: bool) -> Arrays:
        moved = np.array(sorted(self._moved | self._some_with_content()), np.int64)
        vectors = self._learner.vectors(moved)
        known = moved < self.serving.size
        far = np.ones(len(moved), bool)
        distances = np.linalg.norm(vectors[known] - self.serving.vectors.take(moved[known]), axis=1)
        far[known] = ~(distances <= PUBLISHED_DISTANCE)  # NaN is sent, and detected
        # small changes accumulate until they exceed the distance: most rows of a step are negatives that hardly move
        self._moved.intersection_update(moved[~far].tolist())
        return {
            **self._items.changes(everything=False),
            **self._taught(everything=False),
            **self._stacking.changes(),
            **(self._dense() if with_network else {}),
            **self._words(np.array(sorted(self._described), np.int64)),
            **_coded(moved[far], vectors[far]),
        }

    def _words(self, rows: np.ndarray) -> Arrays:
        """Return the words of titles: the content without the category, which is the first part if there is one."""
        self._described = set()
        words = self._learner.buckets[rows].astype(np.uint16)
        has_category = self._items.category[rows] > 0
        words[has_category] = np.pad(words[has_category, 1:], ((0, 0), (0, 1)))
        return {"word_rows": rows, "words": words}

    def _taught(self, *, everything: bool) -> Arrays:
        """Return what the channels learned."""
        changes: Arrays = {}
        for teacher in self._teachers.values():
            changes |= teacher.changes(len(self._items), everything=everything)
        return changes

    def _some_with_content(self) -> set[int]:
        """Return those of the next rows whose content is shared with other items."""
        rows = np.arange(self._look_at, min(self._look_at + LOOKED_AT_ROWS, len(self._items)))
        self._look_at = int(rows[-1]) + 1 if len(rows) == LOOKED_AT_ROWS else 1
        shared: list[int] = rows[self._learner.buckets[rows].any(axis=1)].tolist()
        return set(shared)

    def _dense(self) -> Arrays:
        shape = dense_shape(self._learner.average.config)
        return {"dense_shape": shape, **prefixed("dense", weights_of(self._learner.average))}


def _coded(rows: np.ndarray, vectors: np.ndarray) -> Arrays:
    codes, steps = coded(vectors)
    return {"vector_rows": rows, "vector_codes": codes, "vector_steps": steps}
