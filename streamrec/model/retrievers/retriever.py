"""The protocol of a recall channel.

A channel has two halves: a :class:`Teacher` in the trainer, which counts or trains, and a :class:`Retriever` in every
version, which finds candidates and describes them to the blend. What the teacher publishes reaches the retriever as
named arrays.

Data of several users is concatenated in flat arrays: B users, E events and M candidates in total.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np

from streamrec.model.retrievers.item_vectors import ItemVectors
from streamrec.model.tensors import Arrays

OWN_ITEMS = 8
"""Number of a user's latest distinct items that can be named in a reason."""


class Items(Protocol):
    """The items of a version by row; see :class:`~streamrec.model.ranking.serving.ServingModel`.

    Rows at or beyond `size` belong to later versions. Row 0 is padding.
    """

    size: int
    reference_ms: int
    vectors: ItemVectors
    counts: np.ndarray
    first_ms: np.ndarray
    last_ms: np.ndarray
    events: np.ndarray
    category: np.ndarray
    words: np.ndarray


class Users(NamedTuple):
    """The users to find candidates for.

    Attributes
    ----------
    ends
        End of each user's events, `(B,)`.
    rows, times_ms, categories, event_types
        The events that show interest, oldest first; row 0 for unknown items, category 0 for none, types negative for
        low ratings, `(E,)`.
    now_ms
        Time to recommend for, `(B,)`.
    contexts
        Codes of the context of each user's latest event, 0 for padding, `(B, MAX_CONTEXT_KEYS)`.
    hidden
        The vector of each user, zero for unknown users, `(B, D)`.
    own
        The latest distinct rows of each user, newest first, 0 for padding, `(B, OWN_ITEMS)`.
    k
        Requested length of the lists.
    """

    ends: np.ndarray
    rows: np.ndarray
    times_ms: np.ndarray
    categories: np.ndarray
    event_types: np.ndarray
    now_ms: np.ndarray
    contexts: np.ndarray
    hidden: np.ndarray
    own: np.ndarray
    k: int


class Found(NamedTuple):
    """The rows that one channel found.

    Attributes
    ----------
    rows
        Concatenated by user; may contain padding, duplicates, and rows that must not be listed.
    ends
        End of each user's rows, `(B,)`.
    notes
        What the channel needs again to describe them.
    """

    rows: np.ndarray
    ends: np.ndarray
    notes: Any = None


class Candidates(NamedTuple):
    """The candidates of all channels.

    Attributes
    ----------
    rows
        Ascending and distinct for each user, `(M,)`.
    users
        User of each candidate, `(M,)`.
    starts
        Start of each user's candidates, and end of the last one's, `(B + 1,)`.
    """

    rows: np.ndarray
    users: np.ndarray
    starts: np.ndarray

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return the index of each user's candidate with this row, -1 if none, `(B,)`."""
        if not len(self.rows):
            return np.full(len(rows), -1)
        width = int(max(self.rows.max(), rows.max(initial=0))) + 1
        keys, wanted = self.users * width + self.rows, np.arange(len(rows)) * width + rows
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, place, -1)


class Retrieval(NamedTuple):
    """What one channel contributes to a batch of users.

    Attributes
    ----------
    items, users
        What it was asked.
    found
        What it found.
    candidates
        The candidates of all channels.
    features
        Its features of them, `(len(Retriever.features), M)`, float32.
    """

    items: Items
    users: Users
    found: Found
    candidates: Candidates
    features: np.ndarray


class Lesson(NamedTuple):
    """The new events of a micro-batch with their users' sequences; only events that show interest.

    Attributes
    ----------
    users
        A hash of each user's id, int64, `(B,)`.
    ends
        End of each user's events, `(B,)`.
    rows, event_types, times_ms
        The sequences, oldest event first; row 0 for items without a row, `(E,)`.
    new
        Indices of the new events, ascending, `(n,)`.
    shares
        Weight of each new event: repetitions count less, `(n,)`.
    contexts
        Codes of the context of each new event, 0 for padding, `(n, MAX_CONTEXT_KEYS)`.
    """

    users: np.ndarray
    ends: np.ndarray
    rows: np.ndarray
    event_types: np.ndarray
    times_ms: np.ndarray
    new: np.ndarray
    shares: np.ndarray
    contexts: np.ndarray


class Teacher(Protocol):
    """The half of a channel that learns, in the trainer.

    Memory is bounded, and no call takes longer if there are more items.
    """

    def learn(self, lesson: Lesson) -> None:
        """Learn the new events of a micro-batch, after they were counted."""

    def forget(self, row: int) -> None:
        """Forget a row: it will be given to another item."""

    def changes(self, rows: int, *, everything: bool) -> Arrays:
        """Return what changed since the last call, or everything, as arrays whose names begin with the channel's.

        Parameters
        ----------
        rows
            Number of rows, including padding.
        everything
            Whether the reader knows nothing yet.
        """

    def state(self) -> Arrays:
        """Return the state, for a checkpoint."""

    def load(self, state: Arrays) -> None:
        """Restore what :meth:`state` returned, of this release or an earlier one; empty if the channel was off."""


class Retriever:
    """The half of a channel that serves: one object per version, which several threads may use.

    Attributes
    ----------
    name
        Name in settings and in the reasons of lists.
    features
        Names of the features that it adds to the blend.
    prior
        Initial weights of some of them in the blend.
    """

    name: ClassVar[str]
    features: ClassVar[tuple[str, ...]] = ()
    prior: ClassVar[Mapping[str, float]] = {}

    @classmethod
    def teacher(cls, seed: int, /) -> Teacher | None:
        """Return a new teacher, `None` for a channel that is made of the tables of a version."""

    def follow(self, earlier: Self, items: Items, changes: Mapping[str, np.ndarray], *, in_place: bool) -> None:
        """Become the retriever of a version, from that of the version before; called once, on a new object.

        Parameters
        ----------
        earlier
            The retriever of the version before, a new one for the first version.
        items
            The items of this version.
        changes
            The arrays of all teachers.
        in_place
            Whether the arrays of the earlier one may be modified: nobody reads it any more.
        """

    def find(self, items: Items, users: Users) -> Found:
        """Return candidates of each user."""
        raise NotImplementedError

    def describe(self, retrieval: Retrieval) -> None:
        """Write the features of all candidates, which are zero before; scaled to about 1."""

    def explains(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray | None:
        """Return how well this channel explains that candidates are listed, 0 to 1, `(n,)`; `None` if it never does.

        The channel with the highest value is the reason; at 0 it is none.

        Parameters
        ----------
        chosen
            Indices of candidates, `(n,)`.
        """

    def leads(self, retrieval: Retrieval, chosen: np.ndarray) -> np.ndarray | None:
        """Return the row of the user's item that led to each of these candidates, 0 for none, `(n,)`.

        Candidates of the same user are together, users ascending. `None` if no item led to any.
        """
