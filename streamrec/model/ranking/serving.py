"""A serving model version: item vectors, counts, neighbours and ranking weights.

The trainer publishes changes as named tensors; recall and the trainer itself apply them with the same code, so that the
blend is trained on exactly what serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from streamrec.model.network.forward import Encoder
from streamrec.model.network.sequence_model import ModelConfig, SequenceModel
from streamrec.model.ranking.blend import Blend
from streamrec.model.retrievers.nearest import RoughTable, rough_table
from streamrec.model.retrievers.shelves import Shelves, shelves_of
from streamrec.model.tables.popularity import HALF_LIVES_MS, HOUR_MS, decay
from streamrec.model.tables.vocabulary import grown, unpack_ids
from streamrec.model.tensors import Arrays, below, load_weights, prefixed, weights_of

POPULAR_PER_HALF_LIFE = 64

MAX_AHEAD_MS = 10 * HOUR_MS
"""A weight doubles per half-life after the reference time, which moves before floats overflow."""

_COUNT_TABLES = ("counts", "first_ms", "last_ms", "events", "category")
_ROW_TABLES = ("vectors", *_COUNT_TABLES, "neighbours", "shares")


@dataclass(frozen=True)
class Weights:
    """The part of a version trained by gradient; the rest is counts.

    Attributes
    ----------
    vectors, rough, dense, encoder, blend
        As in :class:`ServingModel`.
    """

    vectors: np.ndarray = field(default_factory=lambda: np.zeros((1, 1), np.float32))
    rough: RoughTable = field(default_factory=lambda: rough_table(np.zeros((1, 1), np.float32), 1))
    dense: Arrays = field(default_factory=dict)
    encoder: Encoder | None = None
    blend: Blend = field(default_factory=Blend)

    def grown(self, rows: int, dim: int) -> Weights:
        """Return the weights with vectors for this many rows, itself if it has them; new ones are zero."""
        if self.vectors.shape == (rows, dim):
            return self
        vectors = np.zeros((rows, dim), np.float32)
        known = min(rows, len(self.vectors)) if self.vectors.shape[1] == dim else 0
        vectors[:known] = self.vectors[:known]
        return replace(self, vectors=vectors, rough=rough_table(vectors, rows))

    def state(self) -> Arrays:
        """Return the weights as arrays, with vectors in half precision."""
        return {"vectors": self.vectors.astype(np.float16), **self.dense, **prefixed("blend", weights_of(self.blend))}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Weights:
        """Restore the weights from :meth:`state`."""
        vectors, dense = arrays["vectors"].astype(np.float32), _dense_in(arrays)
        return cls(
            vectors=vectors,
            rough=rough_table(vectors, len(vectors)),
            dense=dense,
            encoder=_encoder_of(dense) if dense else None,
            blend=_blend_of(arrays) or Blend(),
        )


@dataclass
class ServingModel:
    """One version. Readers that keep a reference see a consistent version while updates are applied.

    Attributes
    ----------
    version
        Name, empty before the first version.
    ids, rows
        Id by row and row by id; rows at or beyond `size` belong to later versions.
    size
        Number of rows, including padding.
    vectors
        Unit item vectors, `(capacity, D)`, float32.
    counts, totals, first_ms, last_ms, reference_ms
        See :class:`~streamrec.model.tables.popularity.Popularity`.
    events
        Events by row.
    category
        Category code by row, 0 for none.
    neighbours, shares
        By row: neighbour rows, best first, 0 for padding, and their weights, which sum to 1, `(capacity, N)`.
    rough
        Quantized vectors for :func:`~streamrec.model.retrievers.nearest.nearest`.
    dense, encoder, blend
        The network's weights as published, the network (`None` before training), and the second-stage ranker.
    newest_event_ms
        Event time of the newest event in it.
    """

    version: str = ""
    ids: list[str] = field(default_factory=lambda: [""])
    rows: dict[str, int] = field(default_factory=dict)
    size: int = 1
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((1, 1), np.float32))
    counts: np.ndarray = field(default_factory=lambda: np.zeros((1, len(HALF_LIVES_MS)), np.float32))
    totals: np.ndarray = field(default_factory=lambda: np.zeros(len(HALF_LIVES_MS)))
    first_ms: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    last_ms: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    events: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    category: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    reference_ms: int = 0
    neighbours: np.ndarray = field(default_factory=lambda: np.zeros((1, 1), np.int32))
    shares: np.ndarray = field(default_factory=lambda: np.zeros((1, 1), np.float32))
    rough: RoughTable = field(default_factory=lambda: rough_table(np.zeros((1, 1), np.float32), 1))
    dense: Arrays = field(default_factory=dict)
    encoder: Encoder | None = None
    blend: Blend = field(default_factory=Blend)
    newest_event_ms: int = 0
    _popular: np.ndarray | None = None
    _is_popular: np.ndarray | None = None
    _in_use: np.ndarray | None = None
    _shelves: Shelves | None = None
    _is_shelved: np.ndarray | None = None

    def row(self, item_id: str) -> int:
        """Return the row of an item in this version, 0 if unknown."""
        row = self.rows.get(item_id, 0)
        return row if row < self.size else 0

    @property
    def popular_rows(self) -> np.ndarray:
        """The distinct most popular rows over all half-lives."""
        if self._popular is None:
            counts = self.counts[: self.size]
            n = min(POPULAR_PER_HALF_LIFE, self.size)
            top = np.argpartition(-counts, n - 1, axis=0)[:n].ravel() if n else np.zeros(0, np.int64)
            top = np.unique(top)
            self._popular = top[self.last_ms[top] > 0]
        return self._popular

    @property
    def is_popular(self) -> np.ndarray:
        """Mask of the most popular rows of any half-life, `(size,)`."""
        if self._is_popular is None:
            self._is_popular = np.zeros(self.size, bool)
            self._is_popular[self.popular_rows] = True
        return self._is_popular

    @property
    def shelves(self) -> Shelves:
        """What is popular and what is new within each category."""
        if self._shelves is None:
            size = self.size
            self._shelves = shelves_of(self.category[:size], self.counts[:size], self.first_ms[:size])
        return self._shelves

    @property
    def is_shelved(self) -> np.ndarray:
        """Whether a row is popular or new within its category, `(size,)`."""
        if self._is_shelved is None:
            is_shelved = np.zeros(self.size, bool)
            is_shelved[self.shelves.rows] = True
            is_shelved[0] = False
            self._is_shelved = is_shelved
        return self._is_shelved

    @property
    def in_use(self) -> np.ndarray:
        """Mask of rows with an item, `(size,)`."""
        if self._in_use is None:
            self._in_use = np.fromiter(map(bool, self.ids[: self.size]), bool, self.size)
        return self._in_use

    @property
    def weights(self) -> Weights:
        """The weights trained by gradient; vectors are not copied."""
        return Weights(self.vectors[: self.size], self.rough, self.dense, self.encoder, self.blend)

    def with_weights(self, weights: Weights) -> ServingModel:
        """Return this version with the weights of another one, for the same number of rows."""
        return replace(
            self,
            vectors=weights.vectors,
            rough=weights.rough.head(self.size),
            dense=weights.dense,
            encoder=weights.encoder,
            blend=weights.blend,
        )

    def countable(self) -> ServingModel:
        """Return this version with a copy of the counts, which :meth:`count` may change."""
        return replace(self, counts=self.counts.copy(), last_ms=self.last_ms.copy())

    def count(self, rows: Sequence[int], times_ms: Sequence[int], shares: Sequence[float]) -> None:
        """Count events newer than this version, in place; readers may see partial updates."""
        newest_ms = max(times_ms)
        if newest_ms - self.reference_ms > MAX_AHEAD_MS:
            factors = decay(newest_ms - self.reference_ms)
            self.counts *= factors.astype(np.float32)
            self.totals = self.totals * factors
            self.reference_ms = newest_ms
        at = np.array(times_ms, np.int64)
        weights = np.array(shares)[:, None] * decay((self.reference_ms - at)[:, None])
        np.add.at(self.counts, np.array(rows), weights.astype(np.float32))
        np.maximum.at(self.last_ms, np.array(rows), at)
        self.newest_event_ms = max(self.newest_event_ms, newest_ms)

    def applied(self, version: str, changes: Mapping[str, np.ndarray], *, in_place: bool = False) -> ServingModel:
        """Return this version with changes; unless `in_place`, this one is not modified."""
        model = replace(
            self, version=version, _popular=None, _is_popular=None, _in_use=None, _shelves=None, _is_shelved=None
        )
        model._apply_ids(changes["vocabulary.rows"], unpack_ids(changes["vocabulary.ids"]), in_place=in_place)  # noqa: SLF001  # its own class
        model._apply_rows(changes, in_place=in_place)  # noqa: SLF001  # its own class
        model._apply_neighbours(changes)  # noqa: SLF001  # its own class
        if dense := _dense_in(changes):
            model.dense, model.encoder = dense, _encoder_of(dense)
        model.blend = _blend_of(changes) or model.blend
        model.newest_event_ms = int(changes["newest_event_ms"][0])
        return model

    def _apply_ids(self, rows: np.ndarray, ids: list[str], *, in_place: bool) -> None:
        changed = [(row, item_id) for row, item_id in zip(rows.tolist(), ids, strict=False)]
        if not in_place and any(row < self.size for row, _ in changed):
            # a row was reassigned to another item: readers of the older version must not see it
            self.ids, self.rows = self.ids.copy(), self.rows.copy()
        for row, _ in changed:
            if row < self.size and self.rows.get(self.ids[row]) == row:
                del self.rows[self.ids[row]]
        for row, item_id in changed:
            if row >= len(self.ids):
                self.ids.extend([""] * (row + 1 - len(self.ids)))
            self.ids[row] = item_id
            if item_id:
                self.rows[item_id] = row
        self.size = max(self.size, int(rows.max(initial=-1)) + 1)

    def _apply_rows(self, changes: Mapping[str, np.ndarray], *, in_place: bool) -> None:
        reference_ms = int(changes["reference_ms"][0])
        if self.vectors.shape[1] != changes["vectors"].shape[1]:
            self.vectors = np.zeros((1, changes["vectors"].shape[1]), np.float32)
        for name in _ROW_TABLES:
            table = grown(getattr(self, name), self.size)
            setattr(self, name, table if in_place or table is not getattr(self, name) else table.copy())
        if reference_ms != self.reference_ms:
            self.counts *= decay(reference_ms - self.reference_ms).astype(np.float32)
            self.reference_ms = reference_ms
        self.vectors[changes["vector_rows"]] = changes["vectors"]
        self.rough = rough_table(self.vectors, self.size)
        for name in _COUNT_TABLES:
            getattr(self, name)[changes["count_rows"]] = changes[name]
        self.totals = changes["totals"]

    def _apply_neighbours(self, changes: Mapping[str, np.ndarray]) -> None:
        rows, ends = changes["neighbours.rows"], changes["neighbours.ends"]
        lengths = np.diff(ends, prepend=0)
        wider = int(lengths.max(initial=0)) - self.neighbours.shape[1]
        if wider > 0:
            self.neighbours = np.pad(self.neighbours, ((0, 0), (0, wider)))
            self.shares = np.pad(self.shares, ((0, 0), (0, wider)))
        self.neighbours[rows], self.shares[rows] = 0, 0.0
        of = np.repeat(np.arange(len(rows)), lengths)
        places = np.arange(len(of)) - (ends - lengths)[of]
        weights = changes["neighbours.weights"].astype(np.float32)
        sums = np.bincount(of, weights, len(rows))
        sums[sums == 0.0] = 1.0  # weights may decay to zero
        self.neighbours[rows[of], places] = changes["neighbours.others"]
        self.shares[rows[of], places] = weights / sums[of]


def dense_shape(config: ModelConfig) -> np.ndarray:
    """Return the shape of the network as an array published with its weights."""
    return np.array([config.dim, config.max_length, config.blocks, config.heads, config.feedforward])


def _dense_in(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Return the weights of the network and its shape, `None` if not in the arrays."""
    return {name: value for name, value in arrays.items() if name.startswith(("dense.", "dense_shape"))}


def _encoder_of(dense: Arrays) -> Encoder:
    dim, max_length, blocks, heads, feedforward = dense["dense_shape"].tolist()
    network = SequenceModel(ModelConfig(dim, max_length, blocks, heads, feedforward, dropout=0.0))
    load_weights(network, {name: value.astype(np.float32) for name, value in below("dense", dense).items()})
    return Encoder(network)


def _blend_of(arrays: Mapping[str, np.ndarray]) -> Blend | None:
    weights = below("blend", arrays)
    if not weights:
        return None
    blend = Blend()
    blend.load(weights)
    return blend
