"""What the use cases need of the outside: each protocol has a double for unit tests and a real adapter.

The ports of lists are in :mod:`streamrec.service.list_ports`, those of retention in
:mod:`streamrec.service.retention_ports`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from streamrec.contracts.derived import UserInterest
from streamrec.contracts.incoming import Item
from streamrec.contracts.model_version import ModelVersions
from streamrec.domain.interest import InterestState
from streamrec.service.batch import Positions, TopicPartition
from streamrec.service.fence import Fences


class Outgoing(NamedTuple):
    """A record to be produced; `timestamp_ms` 0 stands for now."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = {}
    timestamp_ms: int = 0


class Delivery(Protocol):
    """Records on their way to the broker."""

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
        """Return the size of the largest record that a topic takes, in bytes as :func:`size_of` counts them.

        It may shrink while the worker runs: what was refused as too large must be made again, smaller.

        Raises
        ------
        TransientError
            If the broker does not answer.
        """

    def start(self, records: Sequence[Outgoing]) -> Delivery:
        """Produce all of them and return at once, for work that may be done meanwhile.

        Raises
        ------
        TooLargeError
            If one does not fit its topic; none was sent.
        TransientError
            If the broker does not answer.
        """

    def publish(self, records: Sequence[Outgoing]) -> None:
        """Produce all of them and return when the broker has acknowledged each one.

        Raises
        ------
        TooLargeError
            If one does not fit its topic; none was sent.
        TransientError
            If one was not acknowledged; some of them may have been written.
        """


@dataclass(slots=True)
class Progress:
    """How far a source partition is contained in a store, and what its records became.

    Parameters
    ----------
    version
        Number of times it was written.
    next_offset
        The next offset to read; `None` where nothing was ever read.
    applied, duplicates, dead_lettered
        How many records became what.
    """

    version: int = 0
    next_offset: int | None = None
    applied: int = 0
    duplicates: int = 0
    dead_lettered: int = 0


@dataclass(slots=True)
class InterestSnapshot:
    """The states and the progress that one batch is folded into, as they were read together."""

    states: dict[str, InterestState] = field(default_factory=dict)
    progress: dict[TopicPartition, Progress] = field(default_factory=dict)


class TopicIdStore(Protocol):
    """Keeps which topics its positions are of: a topic that was deleted and re-created has the same name."""

    @property
    def other_topics(self) -> Sequence[str]:
        """Topics that are not read by position, and of which offsets are kept all the same."""

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the id of each topic that has one here."""

    def adopt_topic_ids(self, ids: Mapping[str, str]) -> None:
        """Keep the ids of these topics, in place of those that were kept."""

    def contains_any(self, sources: Sequence[TopicPartition]) -> bool:
        """Return whether anything is kept that another topic of the same name would make wrong."""


class InterestStore(Protocol):
    """Keeps interest states and the progress of the source partitions in them."""

    def load(self, user_ids: Sequence[str], sources: Sequence[TopicPartition]) -> InterestSnapshot:
        """Read states and progress; what is not there comes as new."""

    def compare_and_set(self, snapshot: InterestSnapshot) -> bool:
        """Write all of it atomically, each version grown by one, unless anything in it was written since it was read.

        Returns
        -------
        bool
            Whether it was written; if not, nothing was.
        """

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was ever read."""


class Trainer(Protocol):
    """Learns from interests in micro-batches, and guards what serves; one thread calls all but the catalogue's methods.

    Where it is `condemned`, what it has learned since the last good version must not go on: it is to be rolled back.
    """

    @property
    def admissions(self) -> bytes:
        """What was given to `save` with the checkpoint that this trainer was opened from, empty without one."""

    @property
    def condemned(self) -> str:
        """Why what was learned must not go on, empty while all is well."""

    @property
    def versions(self) -> ModelVersions:
        """The versions that are kept or were refused, and what became of them."""

    def train(self, interests: Sequence[UserInterest], *, behind: int) -> None:
        """Learn the `new` events of each interest; with many events behind them, with less effort on each."""

    def contain(self, contains: Mapping[int, int]) -> None:
        """Take note that every record below these offsets of `user-interests`, by partition, is learned now."""

    def take_update(self, *, whole: bool = False) -> list[bytes]:
        """Return the records of `model-updates` that tell what was learned since the last call, perhaps none.

        With `whole` they tell everything to readers that know nothing.

        A version that fails the check before serving is refused: there is none, and the trainer is condemned.
        """

    def save(self, admissions: bytes) -> None:
        """Begin to write a checkpoint of all that was learned by now, with the caller's own record of it."""

    def wait_until_saved(self) -> None:
        """Return when the checkpoint that was begun is on the disk, whole, or cannot be written."""

    @property
    def unsaved(self) -> str:
        """Why the newest checkpoint could not be written, empty while all is well."""

    def can_go_back_to(self, version: str) -> bool:
        """Return whether a version is kept, whole."""

    def roll_back(self, version: str | None, because: str) -> bytes:
        """Go on from a version that is kept, the last good one if none is named, as if it had been opened from it.

        Returns
        -------
        bytes
            What was given to `save` with that version; empty if there is no good version, and the trainer begins anew.
        """

    def spare(self, events: Fences) -> None:
        """Count these events when they come again, and never train them by gradient."""

    def put_item(self, item: Item) -> None:
        """Learn what the catalogue says of an item; any thread may call it."""

    def delete_item(self, item_id: str) -> None:
        """Forget what the catalogue says of an item; any thread may call it."""

    def forget_catalogue(self) -> None:
        """Forget what the catalogue says of all items; any thread may call it."""


class IdentifiedStore(Protocol):
    """A store that holds a random identity."""

    @property
    def name(self) -> str:
        """What kind of store it is, as the broker knows it."""

    def identity(self) -> str:
        """Return the identity, empty if there is none."""

    def claim(self, identity: str) -> str:
        """Set the identity if there is none, and return the one that is there now."""


class IdentityRegister(Protocol):
    """Knows the identity of each store that an installation works with."""

    def read(self, store: str) -> str:
        """Return the identity of a store, empty if none was ever registered."""

    def write(self, store: str, identity: str) -> None:
        """Register the identity of a store in place of the one before."""
