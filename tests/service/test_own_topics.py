"""Anybody may write to the pipeline's own topics: garbage there is refused and counted, and what follows is handled."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, batch, part
from doubles import MemoryPublisher
from list_doubles import CountingRanker, MemoryTopKStore
from safetensors.numpy import save

from streamrec.contracts.derived import EventPosition, UserInterest
from streamrec.contracts.model_update import MAX_PARTS
from streamrec.contracts.topics import MODEL_CONTROL, MODEL_UPDATES, USER_INTERESTS
from streamrec.domain.interest import SequenceEvent
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.service.batch import Fault, Record, TopicPartition
from streamrec.service.make_lists import ListMaker
from streamrec.service.refresh_topk import RefreshTopK
from streamrec.service.train_on_interests import TrainOnInterests

SOURCE = TopicPartition(USER_INTERESTS, 0)
DAY_MS = 86_400_000
GOOD = msgspec.to_builtins(
    UserInterest(
        user_id="u1",
        state_version=1,
        event_time_ms=NOW_MS,
        produced_at_ms=NOW_MS,
        sequence=[SequenceEvent(NOW_MS, 0, 0, 0, "a", "")],
        new=[EventPosition(0, 0, 0)],
        short_term={},
        long_term={},
        long_term_items={},
        transitions=[],
        events_count=1,
    )
)


def interest(**fields):
    return msgspec.json.encode(GOOD | fields)


def event(at, value):
    """Return a sequence whose event has one field replaced."""
    entry = list(GOOD["sequence"][0])
    entry[at] = value
    return [entry]


BAD = {
    "a type that there is not": interest(sequence=event(1, 12)),
    "a negative type that there is not": interest(sequence=event(1, -12)),
    "a time beyond all": interest(sequence=event(0, 2**63)),
    "a time of the event beyond all": interest(event_time_ms=2**63),
    "a time that is to come": interest(event_time_ms=NOW_MS + 2 * DAY_MS),
    "an event that is to come": interest(sequence=event(0, NOW_MS + 2 * DAY_MS)),
    "a negative time": interest(sequence=event(0, -1)),
    "a time of production beyond all": interest(produced_at_ms=2**64),
    "a partition beyond all": interest(sequence=event(2, 2**31)),
    "a negative offset": interest(sequence=event(3, -1)),
    "an offset beyond all": interest(sequence=event(3, 2**63)),
    "an item without a name": interest(sequence=event(4, "")),
    "a name of megabytes": interest(sequence=event(4, "x" * 1_000_000)),
    "no number": interest(sequence=event(0, "now")),
    "half an event": interest(sequence=[[NOW_MS, 0]]),
    "no event": interest(sequence=[]),
    "a new event of no type": interest(new=[[12, 0, 0]]),
    "a new event at a negative offset": interest(new=[[0, 0, -1]]),
    "a new event at an offset beyond all": interest(new=[[0, 0, 2**63]]),
    "a version beyond all": interest(state_version=2**63),
    "a negative version": interest(state_version=-1),
    "a negative count": interest(events_count=-1),
    "a weight for a half-life that there is not": interest(long_term={"c": [1.0]}),
    "a weight beyond all": interest().replace(b'"short_term":{}', b'"short_term":{"c":1e400}'),
    "a user without a name": interest(user_id=""),
    "text": b"hello",
    "bytes": bytes(range(256)),
    "nothing": None,
    "depth": b"[" * 100_000,
}


class NoTrainer:
    """Learns nothing."""

    admissions = b""
    condemned = unsaved = ""


def refresh_with(ranker):
    maker = ListMaker(ranker, top_k=10, arm_of=lambda _: "personal", now_ms=lambda: NOW_MS)
    refresh = RefreshTopK(MemoryTopKStore(), MemoryPublisher(), maker)
    refresh.mark_all()
    return refresh


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_recall_refuses_garbage_counts_it_and_makes_the_list_behind_it(bad):
    refresh = refresh_with(CountingRanker())

    assert refresh.handle(batch(part(USER_INTERESTS, [bad, interest()]))) == {SOURCE: 2}
    assert refresh.tally.outcomes == {"lists": 1, "refused": 1}
    ((topic, reason),) = refresh.tally.refused
    assert topic == USER_INTERESTS
    assert reason in {"bad-json", "bad-value", "bad-time", "wrong-type", "missing-field"}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_the_trainer_refuses_garbage_counts_it_and_admits_what_is_behind_it(bad):
    training = TrainOnInterests(NoTrainer(), MemoryPublisher())

    assert training.handle(batch(part(USER_INTERESTS, [bad, interest()]))) == {SOURCE: 2}
    assert training.waiting == 1
    assert training.tally.outcomes == {"refused": 1}
    assert [topic for topic, _ in training.tally.refused] == [USER_INTERESTS]


def test_what_is_refused_is_counted_once_though_the_store_is_away_at_first():
    refresh = refresh_with(CountingRanker())
    refresh._publisher.failures = 1
    records = batch(part(USER_INTERESTS, [b"garbage", interest()]))
    with pytest.raises(Exception, match="away"):
        refresh.handle(records)
    refresh.handle(records)

    assert refresh.tally.outcomes == {"lists": 1, "refused": 1}


@pytest.mark.parametrize("reason", ["bad-headers", "unreadable"])
def test_what_the_client_could_not_read_is_refused_for_that_reason(reason):
    records = batch(part(USER_INTERESTS, [interest(), interest()]))
    records.slices[0].records[0] = Record(0, NOW_MS, b"u1", None, {}, Fault(reason, "it cannot be read"))
    refresh, training = refresh_with(CountingRanker()), TrainOnInterests(NoTrainer(), MemoryPublisher())
    refresh.handle(records)
    training.handle(records)

    assert refresh.tally.refused == training.tally.refused == {(USER_INTERESTS, reason): 1}
    assert training.waiting == 1


def update(**fields):
    good = {
        "kind": "snapshot",
        "model_version": "v1",
        "base_version": "",
        "part": 0,
        "parts": 1,
        "newest_produced_at_ms": NOW_MS,
        "payload": b"",
    }
    return msgspec.json.encode(good | fields)


@pytest.mark.parametrize(
    "bad",
    [
        b"garbage",
        bytes(range(256)),
        update(newest_produced_at_ms=2**63),
        update(part=-1),
        update(parts=MAX_PARTS + 1),
        update(payload=bytes(500_001)),
        update(payload=b"no tensors"),
        update(payload=save({"vectors": np.zeros((3, 2), np.float32)})),
        update(payload=save({"ids": np.zeros(2, np.uint8), "counts": np.zeros((2, 9))})),
        update(payload=save({"dense_shape": np.full(5, -1)})),
        update(payload=save({name: np.zeros(0) for name in ("rows", "events", "last_ms", "counts", "vectors")})),
    ],
)
def test_what_is_no_version_is_refused_and_counted_and_lists_are_made_all_the_same(bad):
    refresh = refresh_with(ModelRanker(hide_seen=False))
    refresh.learn(batch(part(MODEL_UPDATES, [bad, None])))

    assert refresh.learned.refused.total() == 1
    assert [topic for topic, _ in refresh.learned.refused] == [MODEL_UPDATES]
    refresh.handle(batch(part(USER_INTERESTS, [interest()])))
    assert refresh.tally.outcomes["lists"] == 1


@pytest.mark.parametrize(
    "bad", [b"garbage", b'{"roll_back_to": "", "asked_at_ms": 1}', b'{"roll_back_to": "v", "asked_at_ms": 1e30}', None]
)
def test_what_is_no_command_is_refused_and_counted(bad):
    training = TrainOnInterests(NoTrainer(), MemoryPublisher())
    training.learn(batch(part(MODEL_CONTROL, [bad])))

    assert not training.must_step
    assert [topic for topic, _ in training.refused] == [MODEL_CONTROL]
