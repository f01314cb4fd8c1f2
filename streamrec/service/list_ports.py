"""Ports for making, storing and rebuilding lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from streamrec.contracts.derived import TopKList, UserInterest
from streamrec.contracts.incoming import Item
from streamrec.contracts.listed_items import ListedItems
from streamrec.service.batch import Positions, Slice, TopicPartition
from streamrec.service.list_marks import Census, Facts, Knowledge, Made, Mark
from streamrec.service.withdrawn import Withdrawn, WithdrawnChange


class ListOrigin(msgspec.Struct, frozen=True):
    """The source of a stored list.

    Attributes
    ----------
    state_version, produced_at_ms
        As in :class:`~streamrec.contracts.derived.TopKList`.
    """

    state_version: int
    produced_at_ms: int


class EncodedList(NamedTuple):
    """An encoded list, the same for the store and the topic."""

    user_id: str
    state_version: int
    value: bytes
    hides: bool = False
    """Whether it leaves items out."""


class ListMarks(Protocol):
    """Stores how lists were made, and which of them to rebuild."""

    def facts(self) -> Facts:
        """Return the latest facts."""

    def keep(self, facts: Facts) -> None:
        """Keep facts."""

    def count(self, facts: Facts) -> Census:
        """Count the marks."""

    def trim(self) -> None:
        """Drop the oldest marks beyond the bound."""

    def newest(self, made: Made, count: int, *, below: float = ...) -> list[str]:
        """Return up to this many users whose lists have this mark and a score below a limit, highest score first."""

    def short(self, count: int, *, below: int) -> list[str]:
        """Return up to this many users of short lists that were made when fewer items could be listed."""

    def mark(self, marks: Sequence[Mark], lists: Sequence[EncodedList]) -> None:
        """Replace the marks of these lists, in this order, where they are still stored as given."""

    def shorten(self, user_ids: Sequence[str]) -> None:
        """Mark lists that have lost items as short, in addition to other marks."""

    def drop(self, origins: Mapping[str, ListOrigin | None]) -> None:
        """Remove the marks of users whose list has still the same state version, or is still missing."""

    def undo(self, *, above: int) -> None:
        """Mark lists as poor whose versions had learned more events than this: they were rolled back."""

    def claim(self) -> bool:
        """Try to become the only worker that rebuilds lists, for some seconds."""


class TopKStore(Protocol):
    """Stores the latest list of each user, and the positions of `user-interests` in them."""

    @property
    def marks(self) -> ListMarks:
        """The lists to rebuild."""

    def put_lists(self, lists: Sequence[EncodedList], slices: Sequence[Slice]) -> bool:
        """Replace lists atomically; a list made from an older state than the stored one is ignored.

        Returns
        -------
        bool
            `False` if nothing was written because a slice does not start at the stored position.
        """

    def advance(self, slices: Sequence[Slice], marks: Sequence[Mark]) -> bool:
        """Mark lists, then move the positions past these slices, whose lists are written and published, atomically.

        Returns
        -------
        bool
            `False` if nothing was moved because a slice does not start at the stored position.
        """

    def put_default(self, default: TopKList) -> None:
        """Replace the default list; an empty one, from a worker that has seen no event yet, is ignored."""

    def replace_marks(self, withdrawn: Withdrawn) -> None:
        """Tell readers to drop these items from older lists, and no others."""

    def mark_items(self, change: WithdrawnChange) -> None:
        """Tell readers which items to drop from older lists, and which no more."""

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        """Return the next offset of each source that was read."""

    def replace_lists(self, lists: Sequence[EncodedList]) -> list[bool]:
        """Replace existing lists, each independently, without changing their time to live.

        Returns
        -------
        list of bool
            For each list whether it was written; one made from an older state than the stored one is not.
        """

    def origins(self, user_ids: Sequence[str]) -> list[ListOrigin | None]:
        """Return the source of each list, `None` if there is no list."""


class StoredLists(Protocol):
    """All lists of a store, for removing withdrawn items."""

    def is_withdrawn_waiting(self) -> bool:
        """Return whether any item was withdrawn and may still be in stored lists."""

    def claim_cleaning(self, seconds: int) -> bool:
        """Acquire the cleaning lease for this long; return `False` if another worker holds it."""

    def begin_cleaning(self) -> int:
        """Choose what to take out of all lists: what was chosen and not finished, else all that waits now.

        Returns
        -------
        int
            How many items that are.
        """

    def end_cleaning(self) -> None:
        """Record that no stored list contains the chosen items, unless another worker holds the lease now."""

    def lists_to_clean(self, cursor: int) -> tuple[int, list[tuple[bytes, list[str]]]]:
        """Scan the next few lists.

        Parameters
        ----------
        cursor
            Cursor to continue from, 0 for the beginning.

        Returns
        -------
        tuple
            Where to continue, 0 at the end; and the lists that hold any of the items that were chosen, each with those.
            A list that is there from the beginning to the end is looked into at least once.
        """

    def are_stored(self, lists: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Answer which lists (user id, list) are stored as given."""

    def swap_lists(self, lists: Sequence[tuple[str, bytes, bytes]]) -> list[bool]:
        """Replace lists (user id, list, new list) that are still stored as given; return which ones were replaced."""


class Ranker(Protocol):
    """Ranks items by interest states. Any thread may call `rank` while another one applies updates."""

    @property
    def model_version(self) -> str:
        """The serving version, empty before the first."""

    @property
    def newest_event_time_ms(self) -> int:
        """Event time of the newest event in that version, 0 before the first."""

    @property
    def knowledge(self) -> Knowledge:
        """What that version has learned."""

    @property
    def vocabulary(self) -> tuple[int, int]:
        """Number of items that can be listed: known to the version, and others."""

    @property
    def hide_seen(self) -> bool:
        """Whether lists hide seen items."""

    def rank(self, interests: Sequence[UserInterest], *, k: int) -> list[ListedItems]:
        """Return the best items of each user, best first, at most `k`; never empty once any event was seen."""

    def popular(self, interests: Sequence[UserInterest], *, k: int) -> list[ListedItems]:
        """Return recently popular items for each user under the same rules, for the control arm."""

    def default(self, *, k: int) -> ListedItems:
        """Return the list for unknown users."""

    def put_item(self, item: Item) -> None:
        """Update an item's metadata from the catalogue."""

    def delete_item(self, item_id: str) -> None:
        """Exclude an item from all future lists."""

    def forget_catalogue(self) -> None:
        """Clear the catalogue."""

    def apply_update(self, value: bytes) -> str:
        """Apply one record of `model-updates`; a version serves once it is complete.

        Returns
        -------
        str
            Why the record, or the version it completes, was refused; empty if accepted.
        """
