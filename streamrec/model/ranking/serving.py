"""A serving model version: item vectors, counts, channels and ranking weights.

The trainer publishes changes as named tensors; recall and the trainer itself apply them with the same code, so that the
blend is trained on exactly what serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from streamrec.model.network.config import ModelConfig
from streamrec.model.network.forward import Encoder
from streamrec.model.ranking.blend import Blend, blend_for
from streamrec.model.retrievers.channels import DEFAULT, retrievers_of
from streamrec.model.retrievers.item_vectors import ItemVectors, coded
from streamrec.model.retrievers.retriever import Retriever
from streamrec.model.tables.content import BUCKETS, MAX_PARTS
from streamrec.model.tables.popularity import HALF_LIVES_MS, HOUR_MS, decay
from streamrec.model.tables.vocabulary import grown, unpack_ids
from streamrec.model.tensors import Arrays, below, prefixed

MAX_AHEAD_MS = 10 * HOUR_MS
"""A weight doubles per half-life after the reference time, which moves before floats overflow."""

_COUNT_TABLES = ("counts", "first_ms", "last_ms", "events", "category")
_ROW_TABLES = ("words", *_COUNT_TABLES)


@dataclass(frozen=True)
class Weights:
    """The part of a version trained by gradient; the rest is counts.

    Attributes
    ----------
    vectors, dense, encoder, blend
        As in :class:`ServingModel`.
    """

    vectors: ItemVectors = field(default_factory=lambda: ItemVectors.empty(1))
    dense: Arrays = field(default_factory=dict)
    encoder: Encoder | None = None
    blend: Blend = field(default_factory=lambda: blend_for(retrievers_of(DEFAULT)))

    def grown(self, rows: int, dim: int) -> Weights:
        """Return the weights with vectors for this many rows, itself if it has them; new ones are zero."""
        if self.vectors.codes.shape == (rows, dim):
            return self
        vectors = ItemVectors.empty(dim, rows)
        if self.vectors.dim == dim:
            known = np.arange(min(rows, len(self.vectors.steps)))
            vectors.put(known, self.vectors.codes[known], self.vectors.steps[known])
        return replace(self, vectors=vectors)

    def state(self) -> Arrays:
        """Return the weights as arrays."""
        vectors = {"vector_codes": self.vectors.codes, "vector_steps": self.vectors.steps}
        return {**vectors, **self.dense, **prefixed("blend", self.blend.weights())}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Weights:
        """Restore the weights from :meth:`state`."""
        codes, steps = _coded_in(arrays)
        vectors = ItemVectors.empty(codes.shape[1], len(codes)).put(np.arange(len(codes)), codes, steps)
        dense = _dense_in(arrays)
        return cls(
            vectors=vectors,
            dense=dense,
            encoder=_encoder_of(dense) if dense else None,
            blend=Blend.of(below("blend", arrays)),
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
        Unit item vectors.
    counts, totals, first_ms, last_ms, reference_ms
        See :class:`~streamrec.model.tables.popularity.Popularity`.
    events
        Events by row.
    category
        Category code by row, 0 for none.
    words
        Buckets of the words of titles, from :func:`~streamrec.model.tables.content.content_buckets`, 0 for padding,
        `(capacity, MAX_PARTS)`.
    retrievers
        The channels, in the order in which they break ties of reasons.
    dense, encoder, blend
        The network's weights as published, the network (`None` before training), and the second-stage ranker.
    newest_event_ms
        Event time of the newest event in it.
    """

    version: str = ""
    ids: list[str] = field(default_factory=lambda: [""])
    rows: dict[str, int] = field(default_factory=dict)
    size: int = 1
    vectors: ItemVectors = field(default_factory=lambda: ItemVectors.empty(1))
    counts: np.ndarray = field(default_factory=lambda: np.zeros((1, len(HALF_LIVES_MS)), np.float32))
    totals: np.ndarray = field(default_factory=lambda: np.zeros(len(HALF_LIVES_MS)))
    first_ms: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    last_ms: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    events: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    category: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))
    words: np.ndarray = field(default_factory=lambda: np.zeros((1, MAX_PARTS), np.uint16))
    reference_ms: int = 0
    retrievers: tuple[Retriever, ...] = field(default_factory=lambda: retrievers_of(DEFAULT))
    dense: Arrays = field(default_factory=dict)
    encoder: Encoder | None = None
    blend: Blend = field(default_factory=lambda: blend_for(retrievers_of(DEFAULT)))
    newest_event_ms: int = 0
    _in_use: np.ndarray | None = None

    def row(self, item_id: str) -> int:
        """Return the row of an item in this version, 0 if unknown."""
        row = self.rows.get(item_id, 0)
        return row if row < self.size else 0

    @property
    def in_use(self) -> np.ndarray:
        """Mask of rows with an item, `(size,)`."""
        if self._in_use is None:
            self._in_use = np.fromiter(map(bool, self.ids[: self.size]), bool, self.size)
        return self._in_use

    @property
    def weights(self) -> Weights:
        """The weights trained by gradient; vectors are not copied."""
        return Weights(self.vectors.head(self.size), self.dense, self.encoder, self.blend)

    def with_weights(self, weights: Weights) -> ServingModel:
        """Return this version with the weights of another one, for the same number of rows."""
        blend = weights.blend
        if blend.features != self.blend.features:  # other channels were on
            blend = blend_for(self.retrievers).taught(blend)
        return replace(
            self,
            vectors=weights.vectors,
            dense=weights.dense,
            encoder=weights.encoder,
            blend=blend,
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
        model = replace(self, version=version, _in_use=None)
        model._apply_ids(changes["vocabulary.rows"], unpack_ids(changes["vocabulary.ids"]), in_place=in_place)  # noqa: SLF001  # its own class
        model._apply_rows(changes, in_place=in_place)  # noqa: SLF001  # its own class
        model._apply_channels(changes, in_place=in_place)  # noqa: SLF001  # its own class
        if dense := _dense_in(changes):
            model.dense, model.encoder = dense, _encoder_of(dense)
        if blend := below("blend", changes):
            learned = Blend.of(blend)
            model.blend = blend_for(model.retrievers).taught(learned)
            if unknown := set(learned.features).difference(model.blend.features):
                raise ValueError(f"it ranks by features that are unknown here: {', '.join(sorted(unknown))}")
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
        codes, steps = _coded_in(changes)
        if self.vectors.dim != codes.shape[1]:
            self.vectors = ItemVectors.empty(codes.shape[1])
        vectors = self.vectors.grown(self.size)
        self.vectors = vectors if in_place or vectors is not self.vectors else vectors.copied()
        for name in _ROW_TABLES:
            table = grown(getattr(self, name), self.size)
            setattr(self, name, table if in_place or table is not getattr(self, name) else table.copy())
        if reference_ms != self.reference_ms:
            self.counts *= decay(reference_ms - self.reference_ms).astype(np.float32)
            self.reference_ms = reference_ms
        self.vectors.put(changes["vector_rows"], codes, steps)
        for name in _COUNT_TABLES:
            getattr(self, name)[changes["count_rows"]] = changes[name]
        if "word_rows" in changes:  # missing in versions of earlier releases
            if changes["words"].max(initial=0) >= BUCKETS:
                raise ValueError("words that do not exist")
            self.words[changes["word_rows"]] = changes["words"]
        self.totals = changes["totals"]

    def _apply_channels(self, changes: Mapping[str, np.ndarray], *, in_place: bool) -> None:
        names = [each.name for each in self.retrievers]
        if "channels" in changes:
            names = unpack_ids(changes["channels"])
        earlier = {each.name: each for each in self.retrievers}
        self.retrievers = retrievers_of(names)
        for each in self.retrievers:
            each.follow(earlier.get(each.name) or type(each)(), self, changes, in_place=in_place)


def dense_shape(config: ModelConfig) -> np.ndarray:
    """Return the shape of the network as an array published with its weights."""
    return np.array([config.dim, config.max_length, config.blocks, config.heads, config.feedforward])


def _coded_in(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and steps of vectors; earlier releases sent and kept the vectors themselves."""
    if "vectors" in arrays:
        return coded(arrays["vectors"])
    return arrays["vector_codes"], arrays["vector_steps"]


def _dense_in(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Return the weights of the network and its shape, `None` if not in the arrays."""
    return {name: value for name, value in arrays.items() if name.startswith(("dense.", "dense_shape"))}


def _encoder_of(dense: Arrays) -> Encoder:
    dim, max_length, blocks, heads, feedforward = dense["dense_shape"].tolist()
    return Encoder(ModelConfig(dim, max_length, blocks, heads, feedforward, dropout=0.0), below("dense", dense))
