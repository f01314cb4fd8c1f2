"""Ports of the use cases: each protocol has a test double and a real adapter.

The ports of lists are in :mod:`streamrec.service.list_ports`, those of retention in
:mod:`streamrec.service.retention_ports`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from streamrec.contracts.derived import UserInterest
from streamrec.contracts.incoming import Item
from streamrec.contracts.model_version import ModelVersions
from streamrec.domain.interest import InterestState
from streamrec.service.batch import Positions, TopicPartition
from streamrec.service.fence import Fences


class Outgoing(NamedTuple):
    """A record to produce; `timestamp_ms` 0 means now."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = {}
    timestamp_ms: int = 0


class Delivery(Protocol):
    """Records being sent to the broker."""

    def wait(self) -> None:
        """Return when the broker has acknowledged each one.

        Raises
        ------
        TransientError
            If one was not acknowledged; some of them may have been written.
        """


class Publisher(Protocol):
    """Produces records."""

    def room(self, topic: str) -> int:
        """Return a topic's record size limit, in bytes as computed by :func:`size_of`.

        It may shrink while the worker runs: records refused as too large must be made again, smaller.

        Raises
        ------
        TransientError
            If the broker does not answer.
        """

    def start(self, records: Iterable[Outgoing]) -> Delivery:
        """Produce all of them without waiting for the broker; the first ones are sent while later ones are made.

        Raises
        ------
        TooLargeError
            If one does not fit its topic; those before it may have been written.
        TransientError
            If the broker does not answer.
        """

    def publish(self, records: Iterable[Outgoing]) -> None:
        """Produce all of them and return when the broker has acknowledged each one.

        Raises
        ------
        TooLargeError
            If one does not fit its topic; those before it may have been written.
        TransientError
            If one was not acknowledged; some of them may have been written.
        """


@dataclass(slots=True)
class Progress:
    """Progress of a source partition in a store, with the outcomes of its records.

    Parameters
    ----------
    version
        Identifies the stored value, 0 for none.
    next_offset
        The next offset to read; `None` if nothing was read.
    applied, duplicates, dead_lettered
        Number of records by outcome.
    """

    version: int = 0
    next_offset: int | None = None
    applied: int = 0
    duplicates: int = 0
    dead_lettered: int = 0


@dataclass(slots=True)
class InterestSnapshot:
    """States and progress that a batch is folded into, read atomically."""

    states: dict[str, InterestState] = field(default_factory=dict)
    progress: dict[TopicPartition, Progress] = field(default_factory=dict)


class TopicIdStore(Protocol):
    """Keeps which topics its positions are of: a topic that was deleted and re-created has the same name."""

    @property
    def other_topics(self) -> Sequence[str]:
        """Topics that are not read by position but whose offsets are stored."""

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the known ids of topics."""

    def adopt_topic_ids(self, ids: Mapping[str, str]) -> None:
        """Replace the stored topic ids."""

    def contains_any(self, sources: Sequence[TopicPartition]) -> bool:
        """Return whether anything stored would be wrong for another topic of the same name."""


class InterestStore(Protocol):
    """Stores interest states and the progress of their source partitions."""

    def load(self, user_ids: Sequence[str], sources: Sequence[TopicPartition]) -> InterestSnapshot:
        """Read states and progress; missing ones are returned empty."""

    def compare_and_set(self, snapshot: InterestSnapshot) -> bool:
        """Write everything atomically, with new versions, unless anything was written since it was read.

        Returns
        -------
        bool
            `False` if nothing was written.
        """

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was read."""


class Trainer(Protocol):
    """Learns in micro-batches and guards the serving version; only catalogue methods may be called by other threads.

    If it is `condemned`, what it has learned since the last good version must be rolled back.
    """

    @property
    def admissions(self) -> bytes:
        """The record passed to `save` with the checkpoint that this trainer was opened from; empty without one."""

    @property
    def condemned(self) -> str:
        """Why the trainer must roll back; empty if it need not."""

    @property
    def versions(self) -> ModelVersions:
        """Kept and refused versions with their status."""

    def train(self, interests: Sequence[UserInterest], *, behind: int) -> None:
        """Learn the `new` events of each interest; with a larger backlog, with less effort per event."""

    def contain(self, contains: Mapping[int, int]) -> None:
        """Record that all records below these offsets of `user-interests`, by partition, have been learned."""

    def take_update(self, *, whole: bool = False) -> list[bytes]:
        """Return the records of `model-updates` with what was learned since the last call, possibly none.

        With `whole` they tell everything to readers that know nothing.

        If the version fails the check before serving, no records are returned and the trainer is condemned.
        """

    def save(self, admissions: bytes) -> None:
        """Start writing a checkpoint of everything learned so far, with the caller's own record."""

    def wait_until_saved(self) -> None:
        """Wait until the checkpoint is completely written, or has failed."""

    @property
    def unsaved(self) -> str:
        """Why the latest checkpoint could not be written; empty on success."""

    def can_go_back_to(self, version: str) -> bool:
        """Return whether a version has an intact checkpoint."""

    def roll_back(self, version: str | None, because: str) -> bytes:
        """Restore a kept version, by default the last good one, as if opened from it.

        Returns
        -------
        bytes
            The record passed to `save` with that version; empty if there is no good version and training starts from
            scratch.
        """

    def spare(self, events: Fences) -> None:
        """Only count these events when they are read again; do not train on them."""

    def put_item(self, item: Item) -> None:
        """Update an item's metadata from the catalogue; thread-safe."""

    def delete_item(self, item_id: str) -> None:
        """Remove an item's metadata; thread-safe."""

    def forget_catalogue(self) -> None:
        """Clear the catalogue; thread-safe."""


class IdentifiedStore(Protocol):
    """A store that holds a random identity."""

    @property
    def name(self) -> str:
        """Kind of the store, as registered on the broker."""

    def identity(self) -> str:
        """Return the identity, empty if there is none."""

    def claim(self, identity: str) -> str:
        """Set the identity if there is none, and return the current one."""


class IdentityRegister(Protocol):
    """Registry of the identities of an installation's stores."""

    def read(self, store: str) -> str:
        """Return the identity of a store, empty if none was registered."""

    def write(self, store: str, identity: str) -> None:
        """Register the identity of a store, replacing the previous one."""
