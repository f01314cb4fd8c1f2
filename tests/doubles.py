"""In-memory stand-ins for the ports; the behaviour suites run over them and over the real adapters alike."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from streamrec.contracts.derived import ListItem, Reason, TopKList, UserInterest
from streamrec.contracts.incoming import Item
from streamrec.contracts.topics import BROKER_MAX_MESSAGE_BYTES
from streamrec.domain.interest import InterestState
from streamrec.domain.retention import UserRetention
from streamrec.errors import TooLargeError, TransientError
from streamrec.service.batch import Positions, Slice, TopicPartition, follow_on
from streamrec.service.list_aging import brought_up_to_date
from streamrec.service.list_marks import Census, Facts, Knowledge, Made, Mark
from streamrec.service.list_ports import EncodedList, ListOrigin
from streamrec.service.ports import InterestSnapshot, Outgoing, Progress
from streamrec.service.record_size import size_of
from streamrec.service.retention_ports import RetentionChanges


class MemoryDelivery:
    """Has arrived or failed at once."""

    def __init__(self, error: TransientError | None) -> None:
        self.error = error

    def wait(self) -> None:
        if self.error is not None:
            raise self.error


class MemoryPublisher:
    """Keeps what was published; fails as often as `failures` says, and takes records as large as `rooms` says."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.failures = 0
        self.rooms: dict[str, int] = {}

    def room(self, topic: str) -> int:
        return self.rooms.get(topic, BROKER_MAX_MESSAGE_BYTES)

    def start(self, records: Sequence[Outgoing]) -> MemoryDelivery:
        for record in records:
            if size_of(record) > self.room(record.topic):
                raise TooLargeError(f"{record.topic} takes no record of {size_of(record)} bytes")
        if self.failures:
            self.failures -= 1
            return MemoryDelivery(TransientError("the broker is away"))
        self.records += records
        return MemoryDelivery(None)

    def publish(self, records: Sequence[Outgoing]) -> None:
        self.start(records).wait()

    def of(self, topic: str) -> list[Outgoing]:
        return [record for record in self.records if record.topic == topic]


class MemoryInterestStore:
    """Interest states in a dictionary."""

    def __init__(self) -> None:
        self.states: dict[str, InterestState] = {}
        self._progress: dict[TopicPartition, Progress] = {}

    def load(self, user_ids: Sequence[str], sources: Sequence[TopicPartition]) -> InterestSnapshot:
        return InterestSnapshot(
            {user_id: copy.deepcopy(self.states.get(user_id, InterestState())) for user_id in user_ids},
            {source: copy.deepcopy(self._progress.get(source, Progress())) for source in sources},
        )

    def compare_and_set(self, snapshot: InterestSnapshot) -> bool:
        for user_id, state in snapshot.states.items():
            if self.states.get(user_id, InterestState()).version != state.version:
                return False
        for source, progress in snapshot.progress.items():
            if self._progress.get(source, Progress()).version != progress.version:
                return False
        for held in (*snapshot.states.values(), *snapshot.progress.values()):
            held.version += 1
        self.states |= copy.deepcopy(snapshot.states)
        self._progress |= copy.deepcopy(snapshot.progress)
        return True

    def progress(self, sources: Sequence[TopicPartition]) -> dict[TopicPartition, Progress]:
        return self.load([], sources).progress

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        return {
            source: progress.next_offset
            for source, progress in self.progress(sources).items()
            if progress.next_offset is not None
        }


class MemoryRetentionStore:
    """Users and positions in dictionaries; what a transaction does is kept when it ends well."""

    def __init__(self) -> None:
        self.users: dict[str, UserRetention] = {}
        self.changes: list[RetentionChanges] = []
        self.failures = 0
        self._positions: Positions = {}

    @contextmanager
    def transaction(self) -> Iterator[MemoryRetentionTransaction]:
        work = MemoryRetentionTransaction(copy.deepcopy(self.users), dict(self._positions))
        yield work
        if self.failures:
            self.failures -= 1
            raise TransientError("the store is away")
        self.users, self._positions = work.users, work.stored
        self.changes += work.changes

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        return {source: self._positions[source] for source in sources if source in self._positions}


class MemoryRetentionTransaction:
    """One piece of work on copies."""

    def __init__(self, users: dict[str, UserRetention], stored: Positions) -> None:
        self.users = users
        self.stored = stored
        self.changes: list[RetentionChanges] = []

    def lock_positions(self, sources: Sequence[TopicPartition]) -> Positions:
        return {source: self.stored[source] for source in sources if source in self.stored}

    def lock_users(self, arms: Mapping[str, str]) -> dict[str, UserRetention]:
        return {user_id: self.users.setdefault(user_id, UserRetention()) for user_id in arms}

    def write(self, changes: RetentionChanges, positions: Positions) -> None:
        self.users |= changes.users
        self.changes.append(changes)
        self.stored |= positions


class MemoryListMarks:
    """Marks in dictionaries."""

    def __init__(self) -> None:
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

    def mark(self, marks: Sequence[Mark]) -> None:
        self.drop([mark.user_id for mark in marks])
        for mark in marks:
            self._made[mark.made][mark.user_id] = mark.score
            if mark.short_at is not None:
                self._short[mark.user_id] = mark.short_at

    def shorten(self, user_ids: Sequence[str]) -> None:
        self._short |= dict.fromkeys(user_ids, 0)

    def drop(self, user_ids: Sequence[str]) -> None:
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


class MemoryTopicIds:
    """Ids of topics in a dictionary, beside positions that a test sets."""

    other_topics = ()

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self.stored: Positions = {}

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        return {topic: self.ids[topic] for topic in topics if topic in self.ids}

    def adopt_topic_ids(self, ids: Mapping[str, str]) -> None:
        self.ids |= ids

    def contains_any(self, sources: Sequence[TopicPartition]) -> bool:
        return any(self.stored.get(source) for source in sources)

    def positions(self, sources: Sequence[TopicPartition]) -> Positions:
        return {source: self.stored[source] for source in sources if source in self.stored}


class MemoryTopKStore:
    """Lists in a dictionary; reads like `TopKReader`."""

    def __init__(self) -> None:
        self._lists: dict[str, TopKList] = {}
        self._positions: Positions = {}
        self._default: TopKList | None = None
        self.marks = MemoryListMarks()
        self.stored = self
        self._withdrawn: dict[str, int] = {}
        self._waiting: set[str] = set()

    def put_lists(self, lists: Sequence[EncodedList], slices: Sequence[Slice]) -> bool:
        if not self._is_at(slices):
            return False
        for each in lists:
            known = self._lists.get(each.user_id)
            if known is None or known.state_version <= each.state_version:
                self._lists[each.user_id] = msgspec.json.decode(each.value, type=TopKList)
        return True

    def advance(self, slices: Sequence[Slice], marks: Sequence[Mark]) -> bool:
        self.marks.mark(marks)
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
                self._lists[each.user_id] = msgspec.json.decode(each.value, type=TopKList)
        return written

    def origins(self, user_ids: Sequence[str]) -> list[ListOrigin | None]:
        known = map(self._lists.get, user_ids)
        return [None if topk is None else ListOrigin(topk.state_version, topk.produced_at_ms) for topk in known]

    def _is_at(self, slices: Sequence[Slice]) -> bool:
        return follow_on(slices, self._positions)

    def put_default(self, default: TopKList) -> None:
        if default.event_time_ms or self._default is None:
            self._default = default

    def replace_marks(self, withdrawn: Mapping[str, int]) -> None:
        self.mark_items(dict(withdrawn), [item_id for item_id in self._withdrawn if item_id not in withdrawn])

    def mark_items(self, withdrawn: dict[str, int], available: Sequence[str]) -> None:
        self._waiting |= {item_id for item_id, _ in withdrawn.items() - self._withdrawn.items()}
        self._withdrawn |= withdrawn
        for item_id in available:
            self._withdrawn.pop(item_id, None)
            self._waiting.discard(item_id)

    def withdrawn_waiting(self, limit: int) -> list[str]:
        return sorted(self._waiting)[:limit]

    def withdrawn_cleaned(self, item_ids: Collection[str]) -> None:
        self._waiting -= set(item_ids)

    def claim_cleaning(self, seconds: int) -> bool:
        return seconds > 0

    def lists_with(self, item_ids: Collection[str], cursor: int) -> tuple[int, list[bytes]]:
        """Look into one list at a time."""
        users = sorted(self._lists)
        topk = self._lists.get(users[cursor]) if users else None
        found = [topk] if topk and any(item.item_id in item_ids for item in topk.items) else []
        following = cursor + 1 if cursor + 1 < len(users) else 0
        return following, [msgspec.json.encode(each) for each in found]

    def swap_lists(self, lists: Sequence[tuple[str, bytes, bytes]]) -> list[bool]:
        replaced = []
        for user_id, before, after in lists:
            stored = self._lists.get(user_id)
            replaced.append(stored == msgspec.json.decode(before, type=TopKList))
            if replaced[-1]:
                self._lists[user_id] = msgspec.json.decode(after, type=TopKList)
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
        return msgspec.structs.replace(topk, items=[item for item in topk.items if item.item_id not in self._withdrawn])


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

    def rank(self, interests: Sequence[UserInterest], *, k: int) -> list[list[ListItem]]:
        self.ranked += [interest.user_id for interest in interests]
        self.counts.update(interest.sequence[-1].item_id for interest in interests)
        return [self.default(k=k) for _ in interests]

    def popular(self, interests: Sequence[UserInterest], *, k: int) -> list[list[ListItem]]:
        return self.rank(interests, k=k)

    def default(self, *, k: int) -> list[ListItem]:
        kept = [(item_id, count) for item_id, count in self.counts.most_common() if item_id not in self.hidden]
        return [ListItem(item_id, float(count), Reason("popular")) for item_id, count in kept[:k]]

    def put_item(self, item: Item) -> None:
        (self.hidden.discard if item.available else self.hidden.add)(item.item_id)

    def delete_item(self, item_id: str) -> None:
        self.hidden.add(item_id)

    def forget_catalogue(self) -> None:
        self.hidden.clear()

    def apply_update(self, value: bytes) -> str:
        self.updates.append(value)
        return "bad-json" if value == b"garbage" else ""
