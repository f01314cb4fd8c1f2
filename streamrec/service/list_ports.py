"""What making, storing and rebuilding lists needs of the outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from streamrec.contracts.derived import ListItem, TopKList, UserInterest
from streamrec.contracts.incoming import Item
from streamrec.service.batch import Positions, Slice, TopicPartition
from streamrec.service.list_marks import Census, Facts, Knowledge, Made, Mark
from streamrec.service.withdrawn import Withdrawn, WithdrawnChange


class ListOrigin(msgspec.Struct, frozen=True):
    """What a stored list was made from.

    Attributes
    ----------
    state_version, produced_at_ms
        As in :class:`~streamrec.contracts.derived.TopKList`.
    """

    state_version: int
    produced_at_ms: int


class EncodedList(NamedTuple):
    """A list as it is written, to the store and to the topic alike."""

    user_id: str
    state_version: int
    value: bytes


class ListMarks(Protocol):
    """Remembers how lists were made, and which of them are to be made again."""

    def facts(self) -> Facts:
        """Return what was kept last."""

    def keep(self, facts: Facts) -> None:
        """Keep facts."""

    def count(self, facts: Facts) -> Census:
        """Count the marks."""

    def trim(self) -> None:
        """Drop the oldest of too many marks."""

    def newest(self, made: Made, count: int, *, below: float = ...) -> list[str]:
        """Return the users of so many lists that were made like this, highest score first, all below a limit."""

    def short(self, count: int, *, below: int) -> list[str]:
        """Return the users of so many short lists that were made when fewer items could be listed."""

    def mark(self, marks: Sequence[Mark], lists: Sequence[EncodedList]) -> None:
        """Replace the marks of these lists, in this order, where they are still stored as given."""

    def shorten(self, user_ids: Sequence[str]) -> None:
        """Mark lists that have lost items as short, whatever else they are marked as."""

    def drop(self, origins: Mapping[str, ListOrigin | None]) -> None:
        """Forget the lists of users that are still made from the same state, or still not there."""

    def undo(self, *, above: int) -> None:
        """Mark lists as poor whose versions had learned more events than this: they were rolled back."""

    def claim(self) -> bool:
        """Ask to be the only one who makes lists again, for some seconds."""


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

    def replace_marks(self, withdrawn: Withdrawn) -> None:
        """Tell readers to drop these items from older lists, and no others."""

    def mark_items(self, change: WithdrawnChange) -> None:
        """Tell readers which items to drop from older lists, and which no more."""

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

    def is_withdrawn_waiting(self) -> bool:
        """Return whether any item was withdrawn and may still be in stored lists."""

    def claim_cleaning(self, seconds: int) -> bool:
        """Be the one who cleans, for so long from now; answer `False` if somebody else is."""

    def begin_cleaning(self) -> int:
        """Choose what to take out of all lists: what was chosen and not finished, else all that waits now.

        Returns
        -------
        int
            How many items that are.
        """

    def end_cleaning(self) -> None:
        """Take note that no stored list holds what was chosen, unless somebody else cleans by now."""

    def lists_to_clean(self, cursor: int) -> tuple[int, list[tuple[bytes, list[str]]]]:
        """Look into the next few lists.

        Parameters
        ----------
        cursor
            Where to continue, 0 for the beginning.

        Returns
        -------
        tuple
            Where to continue, 0 at the end; and the lists that hold any of the items that were chosen, each with those.
            A list that is there from the beginning to the end is looked into at least once.
        """

    def are_stored(self, lists: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Answer which lists (user id, list) are stored as given."""

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

    def forget_catalogue(self) -> None:
        """Forget what the catalogue said of all items."""

    def apply_update(self, value: bytes) -> str:
        """Take in one record of `model-updates`; a version serves once all of it is here.

        Returns
        -------
        str
            Why the record, or the version that it completes, was refused; empty if it was not.
        """
