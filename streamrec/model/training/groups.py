"""Groups of tested events that the blend is trained on, and a memory of the latest ones."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamrec.model.ranking.candidates import Described
from streamrec.model.tensors import Arrays
from streamrec.model.training.blend_network import BlendNetwork

MAX_GROUPS = 32
"""Number of groups in the memory: with eight events each, a few MB."""

_GOLDEN_RATIO = (5**0.5 - 1) / 2


class Group(NamedTuple):
    """Events with their candidates: E events, M candidates of all.

    Attributes
    ----------
    features
        Of the candidates, concatenated by event, float16, `(M, F)`.
    lengths
        Number of candidates of each event, `(E,)`.
    targets
        Index of each event's item among the event's candidates, `(E,)`.
    """

    features: np.ndarray
    lengths: np.ndarray
    targets: np.ndarray

    @classmethod
    def of(cls, found: Described, places: np.ndarray, chosen: np.ndarray) -> Group:
        """Return some of the users that candidates were found for, with the place of each one's item in all of them."""
        begins, lengths = found.candidates.starts[chosen], np.diff(found.candidates.starts)[chosen]
        at = np.repeat(begins - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        return cls(found.features[at].astype(np.float16), lengths, places[chosen] - begins)

    def scores(self, blend: BlendNetwork) -> Tensor:
        """Return the scores of each event's candidates side by side, -inf for padding, `(E, longest)`."""
        is_candidate = torch.from_numpy(np.arange(self.lengths.max()) < self.lengths[:, None])
        out = blend(torch.from_numpy(self.features.astype(np.float32)))
        return torch.full(is_candidate.shape, -torch.inf).masked_scatter(is_candidate, out)


class GroupMemory:
    """The latest groups."""

    def __init__(self) -> None:
        self._groups: deque[Group] = deque(maxlen=MAX_GROUPS)
        self._drawn = 0

    def add(self, group: Group) -> None:
        """Remember a group."""
        self._groups.append(group)

    def draw(self, n: int) -> list[Group]:
        """Return groups, in turns that visit all evenly; none until the memory is full.

        Repeating the first few groups would overfit them.
        """
        drawn = []
        for _ in range(n if len(self._groups) == MAX_GROUPS else 0):
            # multiples of the golden ratio need no random state in a checkpoint
            self._drawn += 1
            drawn.append(self._groups[int(self._drawn * _GOLDEN_RATIO % 1.0 * len(self._groups))])
        return drawn

    def state(self) -> Arrays:
        """Return the state as arrays, for a checkpoint; empty as long as nothing was added."""
        if not self._groups:
            return {}
        features, lengths, targets = (np.concatenate(arrays) for arrays in zip(*self._groups, strict=True))
        return {
            "drawn": np.array([self._drawn]),
            "events": np.array([len(group.targets) for group in self._groups]),
            "features": features,
            "lengths": lengths,
            "targets": targets,
        }

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned, if not empty."""
        self._drawn = int(state["drawn"][0])
        events = np.cumsum(state["events"])
        candidates = np.cumsum(state["lengths"])[events - 1]
        parts = (
            np.split(state["features"], candidates[:-1]),
            np.split(state["lengths"], events[:-1]),
            np.split(state["targets"], events[:-1]),
        )
        self._groups.extend(Group(*part) for part in zip(*parts, strict=True))
