"""In-memory stand-ins for the ports of lists; the behaviour suites run over them and over the real adapters alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from streamrec.contracts.derived import TopKList, UserInterest
from streamrec.contracts.incoming import Item
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.service.batch import Positions, Slice, TopicPartition, follow_on
from streamrec.service.list_aging import brought_up_to_date
from streamrec.service.list_marks import Census, Facts, Knowledge, Made, Mark
from streamrec.service.list_ports import EncodedList, ListOrigin
from streamrec.service.withdrawn import Withdrawn, WithdrawnChange


class MemoryListMarks:
    """Marks in dictionaries, of the lists in another."""

    def __init__(self, lists: Mapping[str, TopKList]) -> None:
        self._lists = lists
        self._made: dict[Made, dict[str, float]] = {made: {} for made in Made}
        self._short: dict[str, int] = {}
        self._facts = Facts()

    def facts(self) -> Facts:
        return self._facts

    def keep(self, facts: Facts) -> None:
        self._facts = facts

    def count(self, facts: Facts) -> Census:
        behind, complete = self._made[Made.BEHIND], self._made[Made.COMPLETE]
        return Census(
            poor=len(self._made[Made.POOR]),
            far=sum(score < facts.behind_below for score in behind.values())
            + sum(score < facts.complete_below for score in complete.values()),
            short=sum(short_at < facts.items for short_at in self._short.values()),
            behind=len(behind),
            complete=len(complete),
            all_short=len(self._short),
        )

    def newest(self, made: Made, count: int, *, below: float = float("inf")) -> list[str]:
        return _highest(self._made[made], count, below)

    def short(self, count: int, *, below: int) -> list[str]:
        return _highest(self._short, count, below)

    def mark(self, marks: Sequence[Mark], lists: Sequence[EncodedList]) -> None:
        stored = [self._lists.get(each.user_id) == decoded(each.value) for each in lists]
        self.put([mark for mark, is_stored in zip(marks, stored, strict=True) if is_stored])

    def put(self, marks: Sequence[Mark]) -> None:
        self._forget([mark.user_id for mark in marks])
        for mark in marks:
            self._made[mark.made][mark.user_id] = mark.score
            if mark.short_at is not None:
                self._short[mark.user_id] = mark.short_at

    def shorten(self, user_ids: Sequence[str]) -> None:
        self._short |= dict.fromkeys(user_ids, 0)

    def drop(self, origins: Mapping[str, ListOrigin | None]) -> None:
        self._forget([user_id for user_id, origin in origins.items() if origin_of(self._lists.get(user_id)) == origin])

    def _forget(self, user_ids: Sequence[str]) -> None:
        for marked in (*self._made.values(), self._short):
            for user_id in user_ids:
                marked.pop(user_id, None)

    def undo(self, *, above: int) -> None:
        for made in (Made.BEHIND, Made.COMPLETE):
            undone = {user_id: score for user_id, score in self._made[made].items() if score > above}
            self._made[Made.POOR] |= undone
            self._made[made] = {user_id: score for user_id, score in self._made[made].items() if user_id not in undone}

    def trim(self) -> None:
        """Have room for all."""

    def claim(self) -> bool:
        return True


def _highest(marked: Mapping[str, float], count: int, below: float) -> list[str]:
    users = [user_id for user_id, score in marked.items() if score < below]
    return sorted(users, key=lambda user_id: (marked[user_id], user_id), reverse=True)[:count]


def decoded(value: bytes) -> TopKList:
    return msgspec.json.decode(value, type=TopKList)


def origin_of(topk: TopKList | None) -> ListOrigin | None:
    return None if topk is None else ListOrigin(topk.state_version, topk.produced_at_ms)


class MemoryTopKStore:
    """Lists in a dictionary; reads like `TopKReader`."""

    def __init__(self) -> None:
        self._lists: dict[str, TopKList] = {}
        self._positions: Positions = {}
        self._default: TopKList | None = None
        self.marks = MemoryListMarks(self._lists)
        self.stored = self
        self._withdrawn: dict[str, int] = {}
        self._waiting: set[str] = set()
        self._leaving: set[str] = set()

    def put_lists(self, lists: Sequence[EncodedList], slices: Sequence[Slice]) -> bool:
        if not self._is_at(slices):
            return False
        for each in lists:
            known = self._lists.get(each.user_id)
            if known is None or known.state_version <= each.state_version:
                self._lists[each.user_id] = decoded(each.value)
        return True

    def advance(self, slices: Sequence[Slice], marks: Sequence[Mark]) -> bool:
        self.marks.put(marks)
        if not self._is_at(slices):
            return False
        self._positions |= {part.source: part.next for part in slices}
        return True

    def replace_lists(self, lists: Sequence[EncodedList]) -> list[bool]:
        written = []
        for each in lists:
            known = self._lists.get(each.user_id)
            written.append(known is not None and known.state_version <= each.state_version)
            if written[-1]:
                self._lists[each.user_id] = decoded(each.value)
        return written

    def origins(self, user_ids: Sequence[str]) -> list[ListOrigin | None]:
        return [origin_of(self._lists.get(user_id)) for user_id in user_ids]

    def _is_at(self, slices: Sequence[Slice]) -> bool:
        return follow_on(slices, self._positions)

    def put_default(self, default: TopKList) -> None:
        if default.event_time_ms or self._default is None:
            self._default = default

    def replace_marks(self, withdrawn: Withdrawn) -> None:
        back = [item_id for item_id in self._withdrawn if item_id not in withdrawn.items]
        self.mark_items(WithdrawnChange(withdrawn.items, back, "", withdrawn.digest))

    def mark_items(self, change: WithdrawnChange) -> None:
        self._waiting |= {item_id for item_id, _ in change.withdrawn.items() - self._withdrawn.items()}
        self._withdrawn |= change.withdrawn
        for item_id in change.available:
            self._withdrawn.pop(item_id, None)
            self._waiting.discard(item_id)
            self._leaving.discard(item_id)

    def is_withdrawn_waiting(self) -> bool:
        return bool(self._waiting or self._leaving)

    def begin_cleaning(self) -> int:
        if not self._leaving:
            self._leaving, self._waiting = self._waiting, set()
        return len(self._leaving)

    def end_cleaning(self) -> None:
        self._leaving = set()

    def claim_cleaning(self, seconds: int) -> bool:
        return seconds > 0

    def lists_to_clean(self, cursor: int) -> tuple[int, list[tuple[bytes, list[str]]]]:
        """Look into one list at a time."""
        users = sorted(self._lists)
        topk = self._lists.get(users[cursor]) if users else None
        gone = [item_id for item_id in topk.items.ids if item_id in self._leaving] if topk else []
        following = cursor + 1 if cursor + 1 < len(users) else 0
        return following, [(msgspec.json.encode(topk), gone)] if gone else []

    def are_stored(self, lists: Sequence[tuple[str, bytes]]) -> list[bool]:
        return [self._lists.get(user_id) == decoded(value) for user_id, value in lists]

    def swap_lists(self, lists: Sequence[tuple[str, bytes, bytes]]) -> list[bool]:
        replaced = []
        for user_id, before, after in lists:
            stored = self._lists.get(user_id)
            replaced.append(stored == decoded(before))
            if replaced[-1]:
                self._lists[user_id] = decoded(after)
        return replaced

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        return {source: self._positions[source] for source in sources if source in self._positions}

    def read(self, user_id: str) -> TopKList | None:
        topk = self._lists.get(user_id, self._default)
        if topk is None:
            return None
        topk = self._without_withdrawn(topk)
        return topk if self._default is None else brought_up_to_date(topk, self._without_withdrawn(self._default))

    def _without_withdrawn(self, topk: TopKList) -> TopKList:
        kept = [place for place, item_id in enumerate(topk.items.ids) if item_id not in self._withdrawn]
        return msgspec.structs.replace(topk, items=topk.items.taken(kept))


class CountingRanker:
    """Ranks by how often an item was seen in the newest place of a sequence."""

    model_version = "counting"
    newest_event_time_ms = 0
    hide_seen = False

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.hidden: set[str] = set()
        self.updates: list[bytes] = []
        self.ranked: list[str] = []
        self.knowledge = Knowledge("counting")
        self.others = 0
        """Items of the catalogue that were never seen."""

    @property
    def vocabulary(self) -> tuple[int, int]:
        return len(self.counts.keys() - self.hidden), self.others

    def rank(self, interests: Sequence[UserInterest], *, k: int) -> list[ListedItems]:
        self.ranked += [interest.user_id for interest in interests]
        self.counts.update(interest.sequence[-1].item_id for interest in interests)
        return [self.default(k=k) for _ in interests]

    def popular(self, interests: Sequence[UserInterest], *, k: int) -> list[ListedItems]:
        return self.rank(interests, k=k)

    def default(self, *, k: int) -> ListedItems:
        kept = [(item_id, count) for item_id, count in self.counts.most_common() if item_id not in self.hidden]
        return ListedItems.of([ListItem(item_id, float(count), Reason("popular")) for item_id, count in kept[:k]])

    def put_item(self, item: Item) -> None:
        (self.hidden.discard if item.available else self.hidden.add)(item.item_id)

    def delete_item(self, item_id: str) -> None:
        self.hidden.add(item_id)

    def forget_catalogue(self) -> None:
        self.hidden.clear()

    def apply_update(self, value: bytes) -> str:
        self.updates.append(value)
        return "bad-json" if value == b"garbage" else ""
