"""The oracle: folds the whole log again and compares the result with the stores.

It shares only the decoder and the fold with the workers: no batches, positions or stores. It cannot verify the fold
itself; the property tests of the domain do that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import isclose

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.adapters.kafka.client import client_config
from streamrec.adapters.kafka.lag import end_offsets, partitions_of, start_offsets
from streamrec.adapters.redis import RedisInterestStore
from streamrec.chaos.load import Acknowledged, Place
from streamrec.chaos.patience import PATIENCE_S
from streamrec.chaos.undecodable import to_record
from streamrec.contracts.decode import ID_REUSED, decode_event, decode_own
from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.contracts.topics import EVENT_TOPICS, FEEDBACK, USER_INTERESTS, dead_letter_topic
from streamrec.domain.event import Event, topic_number
from streamrec.domain.interest import FoldRules, InterestState, Outcome
from streamrec.errors import BadRecordError, TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Positions, Record, TopicPartition

_END: int = KafkaError._PARTITION_EOF  # noqa: SLF001  # librdkafka's own codes have no other name
USERS_A_CALL = 500

_interest_decoder = msgspec.json.Decoder(UserInterest)


@dataclass(slots=True)
class Ledger:
    """Expected contents of the stores according to the log.

    Parameters
    ----------
    states
        Interest state by user.
    applied
        Positions of applied events.
    refused
        Expected reason of dead letters by position.
    duplicates
        Number of duplicate events.
    ends
        End offset of each partition.
    records
        Number of records in each partition; transactions leave offsets without records.
    days
        Number of applied clicks and purchases by user and UTC day (days since 1970).
    items
        Number of applied events by item.
    """

    states: dict[str, InterestState] = field(default_factory=dict)
    applied: set[Place] = field(default_factory=set)
    refused: dict[Place, str] = field(default_factory=dict)
    duplicates: int = 0
    ends: dict[TopicPartition, int] = field(default_factory=dict)
    records: Counter[TopicPartition] = field(default_factory=Counter)
    days: Counter[tuple[str, int]] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Differences between the log and the stores; all zero if nothing was lost, duplicated or changed.

    Parameters
    ----------
    missing
        Events in the log that are missing from the stores, or from derived records and dead letters.
    extra
        Events in a store or a derived record that are not in the log, or are counted twice.
    state_mismatches
        Users whose stored interest state is not the fold of their events, or whose list is not based on it.
    notes
        A sample of the differences.
    """

    missing: int = 0
    extra: int = 0
    state_mismatches: int = 0
    notes: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether there are no differences."""
        return not (self.missing or self.extra or self.state_mismatches)

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(
            self.missing + other.missing,
            self.extra + other.extra,
            self.state_mismatches + other.state_mismatches,
            self.notes + other.notes,
        )


def read_ledger(kafka: KafkaAccess, rules: FoldRules) -> Ledger:
    """Fold all events, one partition after the other."""
    ledger = Ledger()
    for source, record in read_all(kafka, EVENT_TOPICS):
        place = (EVENT_TOPICS.index(source.topic), source.partition, record.offset)
        ledger.ends[source] = record.offset + 1
        ledger.records[source] += 1
        try:
            record.check()
            event = decode_event(source, record.offset, record.timestamp_ms, record.value, record.headers)
        except BadRecordError as error:
            ledger.refused[place] = error.reason
            continue
        _fold(ledger, event, place, partial(InterestState.fold, rules=rules))
    return ledger


def judge(ledger: Ledger, kafka: KafkaAccess, store: RedisInterestStore) -> Verdict:
    """Compare interest states, counts, `user-interests` and dead letters with the ledger."""
    notes: list[str] = []
    missing, extra = _judge_counts(ledger, store, notes)
    for name, expected, found in (
        ("user-interests", set(ledger.applied), _published_events(kafka)),
        ("dead letters", set(ledger.refused.items()), _dead_letters(kafka)),
    ):
        lost, made_up = expected - found, found - expected
        missing += len(lost)
        extra += len(made_up)
        notes += [f"{name}: {kind} {sorted(places)[:3]}" for kind, places in (("no", lost), ("odd", made_up)) if places]
    mismatches = list(_mismatches(ledger, store))
    notes += [f"state of {user_id}" for user_id in mismatches[:5]]
    return Verdict(missing, extra, len(mismatches), tuple(notes))


def judge_log(ledger: Ledger, acknowledged: Acknowledged) -> Verdict:
    """Check that the log has all acknowledged records, and that exactly the bad records are refused."""
    missing = sum((acknowledged.records - ledger.records).values())
    wrong = set(ledger.refused.items()) ^ set(acknowledged.poison.items())
    findings = {
        f"{missing} acknowledged records are missing": missing,
        f"refused for an unexpected reason: {sorted(wrong)[:3]}": wrong,
    }
    return Verdict(missing + len(wrong), notes=tuple(f"log: {found}" for found, is_so in findings.items() if is_so))


def read_all(kafka: KafkaAccess, topics: Iterable[str]) -> Iterator[tuple[TopicPartition, Record]]:
    """Yield every record of some topics, up to their ends when reading started.

    Raises
    ------
    TransientError
        If the broker does not deliver for a minute.
    """
    consumer = Consumer(
        client_config(kafka)
        | {"group.id": "streamrec-oracle", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    try:
        for source, end in _ends(consumer, topics).items():
            consumer.assign([KafkaPartition(*source, OFFSET_BEGINNING)])
            position = 0
            while position < end:
                first = consumer.poll(PATIENCE_S)
                if first is None:
                    raise TransientError(f"Kafka: {source.topic}:{source.partition} does not deliver up to {end}")
                # consume() waits for the requested number; with timeout 0 it returns what is available
                messages = [first, *consumer.consume(1_000, 0)]
                for message in messages:
                    error = message.error()
                    if error is None:
                        record = to_record(message)
                        if record.offset < end:
                            yield source, record
                        position = record.offset + 1
                    elif error.code() == _END:  # the last offset in a log may be a transaction marker
                        position = max(position, int(message.offset() or 0))
    finally:
        consumer.close()


def _ends(consumer: Consumer, topics: Iterable[str]) -> Positions:
    """Return the end offset of each non-empty partition."""
    sources = partitions_of(consumer, list(topics))
    starts, ends = start_offsets(consumer, sources), end_offsets(consumer, sources)
    return {source: end for source, end in ends.items() if starts[source] < end}


def _fold(ledger: Ledger, event: Event, place: Place, fold: Callable[[InterestState, Event], Outcome]) -> None:
    state = ledger.states.setdefault(event.user_id, InterestState())
    outcome = fold(state, event)
    if outcome is Outcome.CONFLICT:
        ledger.refused[place] = ID_REUSED
        return
    if outcome is Outcome.DUPLICATE:
        ledger.duplicates += 1
        return
    ledger.applied.add(place)
    # other feedback is activity, too, but not counted
    ledger.days[event.user_id, event.event_time_ms // 86_400_000] += EVENT_TOPICS[place[0]] != FEEDBACK
    ledger.items[event.item_id] += 1


def _judge_counts(ledger: Ledger, store: RedisInterestStore, notes: list[str]) -> tuple[int, int]:
    """Compare the counts stored with the positions; return how many are missing and extra."""
    progress = store.progress(list(ledger.ends))
    missing = sum(max(0, end - (progress[source].next_offset or 0)) for source, end in ledger.ends.items())
    extra = 0
    for name, expected in (
        ("applied", len(ledger.applied)),
        ("duplicates", ledger.duplicates),
        ("dead_lettered", len(ledger.refused)),
    ):
        found = sum(getattr(each, name) for each in progress.values())
        if found != expected:
            notes.append(f"{name}: {found} counted, {expected} in the log")
            missing += max(0, expected - found)
            extra += max(0, found - expected)
    return missing, extra


def _published_events(kafka: KafkaAccess) -> set[Place]:
    return {
        (topic_number(position.event_type), position.partition, position.offset)
        for _, record in read_all(kafka, [USER_INTERESTS])
        for position in _new_in(record)
    }


def _new_in(record: Record) -> list[EventPosition]:
    try:
        return decode_own(_interest_decoder, record.value).new
    except BadRecordError:
        return []  # others can write to the topic, too


def _dead_letters(kafka: KafkaAccess) -> set[tuple[Place, str]]:
    """Return the original position and the reason of each refused record."""
    return {
        (
            (
                EVENT_TOPICS.index(record.headers["dlq.topic"].decode()),
                int(record.headers["dlq.partition"]),
                int(record.headers["dlq.offset"]),
            ),
            record.headers["dlq.reason"].decode(),
        )
        for _, record in read_all(kafka, [dead_letter_topic(topic) for topic in EVENT_TOPICS])
    }


def _mismatches(ledger: Ledger, store: RedisInterestStore) -> Iterator[str]:
    user_ids = list(ledger.states)
    for start in range(0, len(user_ids), USERS_A_CALL):
        some = user_ids[start : start + USERS_A_CALL]
        for user_id, stored in store.load(some, []).states.items():
            if not _same(stored, ledger.states[user_id]):
                yield user_id


_EXACT = "sequence", "fence", "seen", "disliked"


def _same(stored: InterestState, expected: InterestState) -> bool:
    """Compare two states without their versions: integers exactly, decayed sums up to rounding."""
    if any(getattr(stored, name) != getattr(expected, name) for name in _EXACT):
        return False
    if stored.beyond is None or expected.beyond is None:
        return stored.beyond is expected.beyond
    found, wanted = stored.beyond, expected.beyond
    if (found.events, found.reference_ms, found.sums.keys()) != (
        wanted.events,
        wanted.reference_ms,
        wanted.sums.keys(),
    ):
        return False
    return all(
        isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
        for bucket, sums in found.sums.items()
        for a, b in zip(sums, wanted.sums[bucket], strict=True)
    )
