"""What the use cases need of the outside: each protocol has a double for unit tests and a real adapter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from streamrec.contracts.derived import ListItem, TopKList, UserInterest
from streamrec.contracts.incoming import Item
from streamrec.contracts.model_version import ModelVersions
from streamrec.domain.interest import InterestState
from streamrec.domain.retention import UserRetention
from streamrec.service.batch import Positions, Slice, TopicPartition
from streamrec.service.fence import Fences
from streamrec.service.list_marks import Knowledge, Mark
from streamrec.service.list_ports import ListMarks, ListOrigin


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
    """Keeps which topics its positions are of: a topic that was deleted and made anew has the same name."""

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


class EncodedList(NamedTuple):
    """A list as it is written, to the store and to the topic alike."""

    user_id: str
    state_version: int
    value: bytes


class TopKStore(Protocol):
    """Keeps the newest list of each user, and how far `user-interests` is contained in them."""

    @property
    def marks(self) -> ListMarks:
        """Which of the lists are to be made again."""

    def put_lists(self, lists: Sequence[EncodedList], slices: Sequence[Slice]) -> bool:
        """Replace lists whole, all or none; a list made from an older state changes nothing.

        Returns
        -------
        bool
            Whether they were written: `False` if a slice does not start where the stored position stands.
        """

    def advance(self, slices: Sequence[Slice], marks: Sequence[Mark]) -> bool:
        """Move the positions past these slices, whose lists are written and published, all or none; mark lists before.

        Returns
        -------
        bool
            Whether they were moved: `False` if a slice does not start where the stored position stands.
        """

    def put_default(self, default: TopKList) -> None:
        """Replace the list of users who have none; one of a worker that has seen no event yet replaces nothing."""

    def replace_marks(self, withdrawn: Mapping[str, int]) -> None:
        """Tell readers to drop these items from older lists (id → when, Unix milliseconds), and no others."""

    def mark_items(self, withdrawn: dict[str, int], available: Sequence[str]) -> None:
        """Tell readers which items to drop from older lists (id → when, Unix milliseconds), and which no more."""

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was ever read."""

    def replace_lists(self, lists: Sequence[EncodedList]) -> list[bool]:
        """Replace lists that are there, each by itself, and leave their time to live as it is.

        Returns
        -------
        list of bool
            Of each one whether it was written: one that was made from an older state than the stored one was not.
        """

    def origins(self, user_ids: Sequence[str]) -> list[ListOrigin | None]:
        """Return what each list was made from, `None` where there is no list."""


class StoredLists(Protocol):
    """All lists of a store, to take withdrawn items out of them."""

    def withdrawn_waiting(self, limit: int) -> list[str]:
        """Return items that were withdrawn and may still be in stored lists, at most so many."""

    def withdrawn_cleaned(self, item_ids: Collection[str]) -> None:
        """Take note that no stored list holds these items."""

    def claim_cleaning(self, seconds: int) -> bool:
        """Be the one who cleans, for so long from now; answer `False` if somebody else is."""

    def lists_with(self, item_ids: Collection[str], cursor: int) -> tuple[int, list[bytes]]:
        """Look into the next few lists.

        Parameters
        ----------
        cursor
            Where to continue, 0 for the beginning.

        Returns
        -------
        tuple
            Where to continue, 0 at the end; and the lists that hold any of these items. A list that is there from the
            beginning to the end is looked into at least once.
        """

    def swap_lists(self, lists: Sequence[tuple[str, bytes, bytes]]) -> list[bool]:
        """Replace lists (user id, list, new list) that are still stored as given; answer which ones were."""


class Ranker(Protocol):
    """Turns interest into lists. Any thread may call `rank` while another one applies updates."""

    @property
    def model_version(self) -> str:
        """The version that serves, empty before the first."""

    @property
    def newest_event_time_ms(self) -> int:
        """Event time of the newest event in that version, 0 before the first."""

    @property
    def knowledge(self) -> Knowledge:
        """What that version knows."""

    @property
    def vocabulary(self) -> tuple[int, int]:
        """How many items can be listed: those that the version knows, and others."""

    @property
    def hide_seen(self) -> bool:
        """Whether lists leave out what the user has had."""

    def rank(self, interests: Sequence[UserInterest], *, k: int) -> list[list[ListItem]]:
        """Return the best items of each user, best first, at most `k`; never empty once any event was seen."""

    def popular(self, interests: Sequence[UserInterest], *, k: int) -> list[list[ListItem]]:
        """Return recently popular items of each user under the same rules, for the control arm."""

    def default(self, *, k: int) -> list[ListItem]:
        """Return the list for a user nobody knows."""

    def put_item(self, item: Item) -> None:
        """Learn what the catalogue says of an item."""

    def delete_item(self, item_id: str) -> None:
        """Leave an item out of every list from now on."""

    def apply_update(self, value: bytes) -> str:
        """Take in one record of `model-updates`; a version serves once all of it is here.

        Returns
        -------
        str
            Why the record, or the version that it completes, was refused; empty if it was not.
        """


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

    def take_update(self) -> list[bytes]:
        """Return the records of `model-updates` that tell what was learned since the last call, perhaps none.

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


@dataclass(slots=True)
class Counts:
    """How often what happened; added to what is stored."""

    lists: int = 0
    impressions: int = 0
    clicks: int = 0
    purchases: int = 0
    followed_clicks: int = 0
    followed_purchases: int = 0


@dataclass(slots=True)
class Followed:
    """What followed a list; counts are added to what is stored, of times the earlier one stays."""

    user_id: str
    first_followed_at_ms: int = 0
    clicks: int = 0
    purchases: int = 0


@dataclass(slots=True)
class RetentionChanges:
    """What a batch changes.

    Parameters
    ----------
    users
        The new state of each user of the batch.
    arms
        The arm of each user of the batch.
    activity
        Clicks and purchases by user and day.
    counts
        By day and arm.
    followed
        By list.
    """

    users: dict[str, UserRetention]
    arms: dict[str, str]
    activity: dict[tuple[str, int], Counts] = field(default_factory=dict)
    counts: dict[tuple[int, str], Counts] = field(default_factory=dict)
    followed: dict[str, Followed] = field(default_factory=dict)


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


class RetentionTransaction(Protocol):
    """One atomic piece of work; what it has locked waits for nobody else until it ends."""

    def lock_positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was ever read, and keep others from moving them."""

    def lock_users(self, arms: Mapping[str, str]) -> dict[str, UserRetention]:
        """Return the state of each user, new where there is none, and keep others from writing them."""

    def write(self, changes: RetentionChanges, positions: Positions) -> None:
        """Write all changes and move the positions."""


class RetentionStore(Protocol):
    """Keeps retention, and how far its topics are contained in it."""

    def transaction(self) -> AbstractContextManager[RetentionTransaction]:
        """Return a transaction that is committed on leaving, and rolled back on an error."""

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was ever read."""
