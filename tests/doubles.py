"""In-memory stand-ins for the ports; the behaviour suites run over them and over the real adapters alike."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from streamrec.contracts.topics import BROKER_MAX_MESSAGE_BYTES
from streamrec.domain.interest import InterestState
from streamrec.domain.retention import UserRetention
from streamrec.errors import TooLargeError, TransientError
from streamrec.service.batch import Positions, TopicPartition
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

    def start(self, records: Iterable[Outgoing]) -> MemoryDelivery:
        records = list(records)
        for record in records:
            if size_of(record) > self.room(record.topic):
                raise TooLargeError(f"{record.topic} takes no record of {size_of(record)} bytes")
        if self.failures:
            self.failures -= 1
            return MemoryDelivery(TransientError("the broker is away"))
        self.records += records
        return MemoryDelivery(None)

    def publish(self, records: Iterable[Outgoing]) -> None:
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
