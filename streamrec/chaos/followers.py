"""The oracle's checks of derived data: retention in PostgreSQL, lists in Redis, and the model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import msgspec
from sqlalchemy import select

from streamrec.adapters.kafka.lag import end_offsets, open_observer, partitions_of
from streamrec.adapters.postgres.engine import connect
from streamrec.adapters.postgres.tables import activity
from streamrec.adapters.redis import TopKReader
from streamrec.chaos.load import Place
from streamrec.chaos.oracle import Ledger, Verdict
from streamrec.contracts.topics import USER_INTERESTS
from streamrec.kafka_access import KafkaAccess
from streamrec.model.tables.vocabulary import unpack_ids
from streamrec.model.training import checkpoint
from streamrec.service.admission import Admissions
from streamrec.service.fence import WINDOW_OFFSETS, FenceState, PositionFence
from streamrec.settings import Settings

EPOCH = date(1970, 1, 1)


def judge_followers(ledger: Ledger, settings: Settings, workers: Sequence[str]) -> Verdict:
    """Compare the results of these workers with the ledger; the trainer must have stopped."""
    verdict = Verdict()
    if "retention" in workers:
        verdict += _judge_retention(ledger, settings.require_postgres_url())
    if "recall" in workers:
        verdict += _judge_lists(ledger, TopKReader(settings.require_redis_url()))
    if "trainer" in workers:
        verdict += _judge_model(ledger, settings.require_kafka(), settings.checkpoint_dir)
    return verdict


def _judge_retention(ledger: Ledger, postgres_url: str) -> Verdict:
    """Check that every applied event counts once, on its user's day."""
    engine = connect(postgres_url)
    with engine.connect() as connection:
        rows = connection.execute(
            select(activity.c.user_id, activity.c.day, activity.c.clicks + activity.c.purchases)
        ).all()
    engine.dispose()
    found = Counter({(user_id, (day - EPOCH).days): count for user_id, day, count in rows})
    lost, made_up = ledger.days - found, found - ledger.days
    notes = [f"retention: {kind} {list(days.items())[:3]}" for kind, days in (("no", lost), ("odd", made_up)) if days]
    return Verdict(lost.total(), made_up.total(), 0, tuple(notes))


def _judge_lists(ledger: Ledger, reader: TopKReader) -> Verdict:
    """Check by its state version that each list was made from all events of its user."""
    user_ids = list(ledger.states)
    stale = [
        user_id
        for user_id, topk in zip(user_ids, reader.read_many(user_ids), strict=True)
        if topk is None or topk.user_id != user_id or topk.state_version != ledger.states[user_id].content_version
    ]
    return Verdict(0, 0, len(stale), tuple(f"list of {user_id}" for user_id in stale[:5]))


def unread_by_checkpoint(settings: Settings) -> int:
    """Return the number of records of `user-interests` that the latest checkpoint has not read."""
    checkpoints = settings.checkpoint_dir
    admissions = Admissions([], [], [])
    if numbers := checkpoint.numbers(checkpoints):
        admissions = _admissions(checkpoint.read(checkpoints, numbers[-1])[1])
    return _unread(settings.require_kafka(), admissions)


def _admissions(documents: Mapping[str, bytes]) -> Admissions:
    return msgspec.json.decode(documents["admissions"], type=Admissions)


def _judge_model(ledger: Ledger, kafka: KafkaAccess, checkpoints: Path) -> Verdict:
    """Check that the latest checkpoint has read everything, admitted every event, and counted nothing twice.

    A step skips events older than a whole sequence, so fewer events may be counted than admitted.
    """
    numbers = checkpoint.numbers(checkpoints)
    if not numbers:
        return Verdict(missing=len(ledger.applied), notes=("there is no checkpoint",))
    tensors, documents = checkpoint.read(checkpoints, numbers[-1])
    admissions = _admissions(documents)
    admitted = {place for fence in admissions.fences for place in _admitted(fence)}
    beyond = {(fence.topic_number, fence.partition): fence.highest - WINDOW_OFFSETS for fence in admissions.fences}
    # a fence has forgotten offsets below its window
    applied = {place for place in ledger.applied if place[2] > beyond.get(place[:2], -1)}
    lost, made_up = applied - admitted, admitted - applied
    counted = Counter(
        dict(zip(unpack_ids(tensors["items.vocabulary.ids"]), tensors["items.vocabulary.events"].tolist(), strict=True))
    )
    twice = counted - ledger.items
    learned = json.loads(documents["learning"])["events"]
    too_many = max(0, learned - len(ledger.applied))
    unread = _unread(kafka, admissions)
    findings = {
        "not admitted": sorted(lost)[:3],
        "odd": sorted(made_up)[:3],
        "twice": twice,
        "learned twice": too_many,
        "unread": unread,
    }
    notes = tuple(f"model: {name} {found}" for name, found in findings.items() if found)
    return Verdict(len(lost) + unread, len(made_up) + twice.total() + too_many, 0, notes)


def _admitted(fence: FenceState) -> Iterator[Place]:
    """Return the positions within a fence's window that it has admitted."""
    known = PositionFence(fence.highest, fence.bits)
    for offset in range(max(0, fence.highest - WINDOW_OFFSETS + 1), fence.highest + 1):
        if offset in known:
            yield fence.topic_number, fence.partition, offset


def _unread(kafka: KafkaAccess, admissions: Admissions) -> int:
    observer = open_observer(kafka)
    ends = end_offsets(observer, partitions_of(observer, [USER_INTERESTS]))
    observer.close()
    read = {(topic, partition): offset for topic, partition, offset in admissions.positions}
    return sum(end - read.get(source, 0) for source, end in ends.items())
