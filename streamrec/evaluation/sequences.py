"""Data sets of sequences as flat arrays, and their batches.

Shapes: S sequences, E events of all of them, B sequences of a batch, L events of its longest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamrec.model.network.micro_batch import Padded


@dataclass(frozen=True, slots=True)
class Sequences:
    """Concatenated sequences, each oldest first.

    Attributes
    ----------
    rows
        Row of each event's item, from 1, `(E,)`.
    starts
        Start of each sequence, and end of the last one, `(S + 1,)`.
    times_s
        Seconds since the sequence's first event, `(E,)`; zeros if times are unknown.
    """

    rows: np.ndarray
    starts: np.ndarray
    times_s: np.ndarray

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Return the length of each sequence, `(S,)`."""
        return np.diff(self.starts)

    def of(self, sequence: int) -> np.ndarray:
        """Return the rows of one sequence."""
        return self.rows[self.starts[sequence] : self.starts[sequence + 1]]

    def take(self, chosen: np.ndarray) -> Sequences:
        """Return some of the sequences, in the given order."""
        return self.windows(self.starts[chosen], self.starts[chosen + 1])

    def windows(self, begin: np.ndarray, end: np.ndarray) -> Sequences:
        """Return slices of sequences, given start and end events."""
        lengths = end - begin
        starts = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(starts[-1]) + np.repeat(begin - starts[:-1], lengths)
        times_s = self.times_s[at]
        if len(at):
            times_s = times_s - np.repeat(self.times_s[begin[lengths > 0]], lengths[lengths > 0])
        return Sequences(self.rows[at], starts, times_s)

    def without_last(self, events: int) -> Sequences:
        """Return every sequence without its latest events."""
        return self.windows(self.starts[:-1], np.maximum(self.starts[1:] - events, self.starts[:-1]))

    def joined(self, other: Sequences) -> Sequences:
        """Return these sequences followed by others."""
        return Sequences(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.starts, self.starts[-1] + other.starts[1:]]),
            np.concatenate([self.times_s, other.times_s]),
        )

    def sequence_of_event(self) -> np.ndarray:
        """Return the sequence index of each event, `(E,)`."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def padded(self, chosen: np.ndarray) -> Padded:
        """Stack some of the sequences, padded at the end; every event but the first is a target."""
        lengths = self.lengths[chosen]
        place = np.arange(lengths.max(initial=1))
        is_event = place < lengths[:, None]
        at = (self.starts[chosen][:, None] + place)[is_event]
        rows, weights = np.zeros(is_event.shape, np.int64), is_event.astype(np.float32)
        times_s = np.zeros_like(weights)
        rows[is_event], times_s[is_event] = self.rows[at], self.times_s[at]
        weights[:, 0] = 0.0
        return Padded(rows, np.zeros_like(rows), times_s, weights)


def from_groups(groups: np.ndarray, rows: np.ndarray, times_s: np.ndarray | None) -> tuple[Sequences, np.ndarray]:
    """Group events into sequences, keeping their order.

    Returns
    -------
    Sequences
        Sequences in ascending order of the group.
    numpy.ndarray
        The group of each sequence.
    """
    order = np.argsort(groups, kind="stable")
    distinct, first = np.unique(groups[order], return_index=True)
    starts = np.append(first, len(groups))
    spans = np.zeros(len(rows), np.float32)
    if times_s is not None and len(rows):
        ordered = times_s[order]
        spans = (ordered - np.repeat(ordered[first], np.diff(starts))).astype(np.float32)
    return Sequences(rows[order], starts, spans), distinct


def pieces(sequences: Sequences, max_length: int, rng: np.random.Generator) -> Sequences:
    """Split long sequences into pieces that overlap by one event, so that every event but the first is a target once.

    The splits are random; the remainder at the beginning is a short piece.
    """
    first, last = sequences.starts[:-1], sequences.starts[1:]
    cut = last - rng.integers(0, max_length - 1, len(last)) * (last - first > max_length)
    begins, ends = [np.maximum(cut - 1, first)], [last]
    while (cut - first > 1).any():
        begins.append(np.maximum(cut - max_length, first))
        ends.append(cut)
        cut = np.where(begins[-1] > first, begins[-1] + 1, first)
    begin, end = np.concatenate(begins), np.concatenate(ends)
    enough = end - begin > 1
    return sequences.windows(begin[enough], end[enough])


def newest(sequences: Sequences, max_length: int) -> Sequences:
    """Return the latest events of each sequence that has a target."""
    end = sequences.starts[1:]
    begin = np.maximum(sequences.starts[:-1], end - max_length)
    enough = end - begin > 1
    return sequences.windows(begin[enough], end[enough])


def batches(lengths: np.ndarray, events: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield batches of sequences of similar length, each of about this many events, in random order."""
    if not len(lengths):
        return
    # similar lengths, but varying batches
    order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(lengths)), kind="stable")
    of_batch = np.cumsum(lengths[order]) // events
    parts = np.split(order, np.flatnonzero(np.diff(of_batch)) + 1)
    for index in rng.permutation(len(parts)):
        yield parts[index]
