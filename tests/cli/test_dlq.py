"""Dead letters on a real broker: listed, shown, and put back."""

from __future__ import annotations

import base64
import json
from uuid import uuid4

import pytest
from builders import NOW_MS, click
from doubles import MemoryInterestStore, MemoryPublisher

from streamrec.adapters.kafka import KafkaPublisher
from streamrec.adapters.kafka.dead_letters import CE_SOURCE, DeadLetter, read_dead_letters, records_to_replay
from streamrec.chaos.oracle import read_all
from streamrec.cli.app import main
from streamrec.contracts.headers import DeadLetterHeaders
from streamrec.domain.interest import FoldRules
from streamrec.service.batch import Batch, Record, Slice, TopicPartition
from streamrec.service.fold_interests import FoldInterests
from streamrec.service.ports import Outgoing


@pytest.fixture
def reason(kafka, monkeypatch):
    """Return a reason that only this test's letters have."""
    monkeypatch.setenv("STREAMREC_KAFKA", kafka.bootstrap)
    return f"test-{uuid4().hex[:8]}"


def letter(reason, value, *, offset=17, headers=None, topic="clicks", key=b"u1"):
    about = DeadLetterHeaders(
        topic=topic,
        partition=3,
        offset=offset,
        timestamp=1_700_000_000_000,
        reason=reason,
        message="what is wrong",
        stage="interests",
        app_version="0",
    )
    return Outgoing(f"{topic}.dlq", key, value, {**(headers or {}), **about.encode()})


def found(outgoing):
    """Return a letter as it is read, without a broker."""
    record = Record(5, NOW_MS, outgoing.key, outgoing.value, outgoing.headers)
    return DeadLetter(TopicPartition(outgoing.topic, 0), record)


def letters_of(kafka, reason):
    return [found for found in read_dead_letters(kafka) if found.header("reason") == reason]


def run(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    captured = capsys.readouterr()
    assert exit_info.value.code == 0, captured.err
    return captured.out


def test_list_counts_by_topic_and_reason(kafka, reason, capsys):
    KafkaPublisher(kafka).publish([letter(reason, b"{1", offset=1), letter(reason, None, offset=2)])
    (counted,) = [entry for entry in json.loads(run(["dlq", "list", "--json"], capsys)) if entry["reason"] == reason]

    assert (counted["topic"], counted["count"]) == ("clicks.dlq", 2)
    assert reason in run(["dlq", "list"], capsys)


def test_show_prints_nothing_that_moves_the_terminal(kafka, reason, capsys):
    value = b'\x1b[2J\xff{"user_id": [bold]}'
    KafkaPublisher(kafka).publish([letter(reason, value)])
    (found,) = letters_of(kafka, reason)
    shown = run(["dlq", "show", found.position], capsys)
    document = json.loads(run(["dlq", "show", found.position, "--json"], capsys))

    assert "\x1b" not in shown
    assert "[bold]" in shown
    assert document["origin"] == "clicks:3:17"
    assert base64.b64decode(document["value_base64"]) == value
    assert document["headers"]["dlq.message"] == "what is wrong"


def test_show_of_a_dead_letter_that_does_not_exist_is_a_users_error(reason, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["dlq", "show", f"clicks.dlq:0:{10**9}"])

    assert (exit_info.value.code, capsys.readouterr().err.count("\n")) == (2, 1)
    assert reason


def test_replay_puts_the_record_back_as_it_was_with_a_name(kafka, reason, capsys):
    value = json.dumps({"test": reason}).encode()
    KafkaPublisher(kafka).publish([letter(reason, value, headers={"trace": b"t"})])
    for _ in range(2):
        assert json.loads(run(["dlq", "replay", "--reason", reason, "--json"], capsys))["replayed"] == {"clicks": 1}
    copies = [record for _, record in read_all(kafka, ["clicks"]) if record.value == value]

    assert len(copies) == 2
    assert {record.key for record in copies} == {b"u1"}
    assert all(
        record.headers == {"trace": b"t", "ce_source": CE_SOURCE.encode(), "ce_id": b"clicks:3:17"} for record in copies
    ), "both copies are the same event"


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (b'{"event_id": "e1", "user_id": "u1"}', {}),
        (b"{broken", {"ce_source": b"shop", "ce_id": b"7"}),
    ],
)
def test_a_record_that_names_its_event_keeps_the_name(kafka, reason, value, headers):
    KafkaPublisher(kafka).publish([letter(reason, value, headers=headers)])
    (record,) = records_to_replay(letters_of(kafka, reason))

    assert record == Outgoing("clicks", b"u1", value, headers)


def test_a_record_that_was_refused_again_is_replayed_once(kafka, reason):
    named = {"ce_source": CE_SOURCE.encode(), "ce_id": b"clicks:3:17"}
    KafkaPublisher(kafka).publish([letter(reason, b"{", offset=17), letter(reason, b"{", offset=99, headers=named)])
    (record,) = records_to_replay(letters_of(kafka, reason))

    assert record.headers == named


def test_a_record_that_is_replayed_twice_is_applied_once():
    """It was refused by a release that could not read it, and is put back, by mistake twice, under one that can."""
    refused = letter("unknown-type", click("u1", "i1"))
    again = [record for _ in range(2) for record in records_to_replay([found(refused)])]
    store, source = MemoryInterestStore(), TopicPartition("clicks", 3)
    for offset, record in enumerate(again):
        put_back = Record(offset, NOW_MS, record.key, record.value, record.headers)
        FoldInterests(store, MemoryPublisher(), FoldRules(50)).handle(
            Batch([Slice(source, offset, offset + 1, [put_back])])
        )

    progress = store.progress([source])[source]
    assert (progress.applied, progress.duplicates) == (1, 1)
    assert len(store.states["u1"].sequence) == 1


def test_an_event_that_was_refused_for_its_id_is_applied_under_one_of_its_own():
    lines = [click("u1", name, event_id="order-1") for name in "ab"]
    publisher, store, source = MemoryPublisher(), MemoryInterestStore(), TopicPartition("clicks", 3)
    fold = FoldInterests(store, publisher, FoldRules(50))

    def handle(*records):
        start = store.positions([source]).get(source, 0)
        placed = [record._replace(offset=start + number) for number, record in enumerate(records)]
        fold.handle(Batch([Slice(source, start, start + len(placed), placed)]))

    handle(*(Record(0, NOW_MS, b"u1", line, {}) for line in lines))
    for _ in range(2):
        for record in records_to_replay(map(found, publisher.of("clicks.dlq"))):
            handle(Record(0, NOW_MS, record.key, record.value, record.headers))

    assert [event.item_id for event in store.states["u1"].sequence] == ["a", "b"]
    assert len(publisher.of("clicks.dlq")) == 1


def test_an_event_in_a_structured_cloudevent_keeps_its_name():
    value = json.dumps({"specversion": "1.0", "id": "e1", "source": "/shop", "type": "x", "data": {}}).encode()
    (record,) = records_to_replay([found(letter("unknown-type", value))])
    assert record.headers == {}


def test_what_was_said_of_an_item_since_is_not_undone_by_a_replay():
    def item_letter(key, offset):
        return found(letter("bad-json", b"{", offset=offset, topic="items", key=key))

    letters = [item_letter(b"old", 3), item_letter(b"last", 4), item_letter(None, 5), item_letter(b"gone", 6)]
    replayed = list(records_to_replay(letters, newest_items={b"old": 7, b"last": 4}))

    assert [(record.topic, record.key) for record in replayed] == [
        ("items", b"last"),
        ("items", None),
        ("items", b"gone"),
    ]
    assert all(record.headers == {} for record in replayed)


@pytest.mark.parametrize("topic", ["items", "impressions"])
def test_dead_letters_of_other_topics_are_listed_shown_and_replayed(kafka, reason, capsys, topic):
    key, value = reason.encode(), json.dumps({"test": reason}).encode()
    publisher = KafkaPublisher(kafka)
    publisher.publish([Outgoing(topic, key, value)])
    where = next(record.offset for _, record in read_all(kafka, [topic]) if record.key == key)
    publisher.publish([letter(reason, value, offset=where, topic=topic, key=key)] * 2)
    (counted,) = [entry for entry in json.loads(run(["dlq", "list", "--json"], capsys)) if entry["reason"] == reason]
    shown = json.loads(run(["dlq", "show", counted["newest"], "--json"], capsys))

    assert (counted["topic"], counted["count"], counted["letters"]) == (f"{topic}.dlq", 1, 2)
    assert base64.b64decode(shown["value_base64"]) == value
    assert json.loads(run(["dlq", "replay", "--reason", reason, "--json"], capsys))["replayed"] == {topic: 1}
    again = json.loads(run(["dlq", "replay", "--reason", reason, "--json"], capsys))
    assert again["replayed"] == ({} if topic == "items" else {topic: 1}), "a newer record of the item is there"


def test_a_shortened_dead_letter_is_not_replayed_as_if_it_were_whole(kafka, reason, capsys):
    """Sizes are checked on replay: a shortened record is incomplete, and some fit in no other topic."""
    cut = letter(reason, b'{"user_id": "u1", "item', offset=1, headers={"dlq.cut": b"headers,value"})
    large = letter(reason, b"[" * 1_048_500, offset=2)
    without_headers = letter(reason, b"{", offset=3, headers={"dlq.cut": b"headers"})
    KafkaPublisher(kafka).publish([cut, large, without_headers])
    found = json.loads(run(["dlq", "replay", "--reason", reason, "--json"], capsys))

    assert found["replayed"] == {"clicks": 1}
    assert found["left_out"] == {"shortened to fit in a dead letter": 1, "larger than the topic's limit": 1}
    assert "skipped 1: shortened to fit in a dead letter" in run(["dlq", "replay", "--reason", reason], capsys)
