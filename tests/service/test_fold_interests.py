"""Clicks and purchases become interest states; each record ends applied, duplicate or dead-lettered."""

from __future__ import annotations

import copy
import json

import pytest
from builders import NOW_MS, batch, click, part
from doubles import MemoryInterestStore, MemoryPublisher

from streamrec.contracts.topics import BROKER_MAX_MESSAGE_BYTES
from streamrec.domain.feedback import read_weights
from streamrec.domain.interest import FoldRules
from streamrec.errors import TooManyDeadLettersError, TransientError
from streamrec.service.batch import TopicPartition
from streamrec.service.fold_interests import DEAD_LETTER_WINDOW, FoldInterests
from streamrec.service.record_size import size_of

CLICKS = TopicPartition("clicks", 0)


@pytest.fixture
def store():
    return MemoryInterestStore()


@pytest.fixture
def publisher():
    return MemoryPublisher()


@pytest.fixture
def fold(store, publisher):
    return FoldInterests(store, publisher, FoldRules(50))


def counts(store, source=CLICKS):
    progress = store.progress([source])[source]
    return progress.applied, progress.duplicates, progress.dead_lettered


def test_a_batch_becomes_states_positions_and_derived_records(fold, store, publisher):
    positions = fold.handle(batch(part("clicks", [click("u1", "a"), click("u2", "b"), click("u1", "c", NOW_MS + 1)])))

    assert positions == store.positions([CLICKS]) == {CLICKS: 3}
    assert [event.item_id for event in store.states["u1"].sequence] == ["a", "c"]
    interests = [json.loads(record.value) for record in publisher.of("user-interests")]
    assert [(interest["user_id"], interest["new"]) for interest in interests] == [
        ("u1", [[0, 0, 0], [0, 0, 2]]),
        ("u2", [[0, 0, 1]]),
    ]
    assert counts(store) == (3, 0, 0)


@pytest.mark.parametrize("hide_seen", [True, False])
def test_items_that_lists_hide_outlive_the_sequence(store, publisher, hide_seen):
    fold = FoldInterests(store, publisher, FoldRules(2, keep_seen=hide_seen))
    fold.handle(batch(part("clicks", [click("u1", item, NOW_MS + n) for n, item in enumerate("cabcd")])))
    interest = json.loads(publisher.of("user-interests")[0].value)
    assert interest.get("seen_before") == (["a", "b"] if hide_seen else None)


def test_a_second_event_with_the_same_id_is_a_duplicate(fold, store):
    fold.handle(batch(part("clicks", [click("u1", "a", event_id="e1"), click("u1", "a", event_id="e1")])))

    assert counts(store) == (1, 1, 0)
    assert len(store.states["u1"].sequence) == 1


def test_the_event_id_of_the_cloudevents_headers_goes_first(fold, store):
    headers = {"ce_id": b"1", "ce_source": b"/shop", "ce_type": b"com.shop.click.v1"}
    slices = part("clicks", [click("u1", "a", event_id="x"), click("u1", "a", event_id="y")], headers=headers)
    fold.handle(batch(slices))

    assert counts(store) == (1, 1, 0)


def test_a_bad_record_goes_to_the_dead_letters_with_its_bytes_and_reason(fold, store, publisher):
    fold.handle(batch(part("clicks", [click("u1", "a"), b"{broken", click("u1", "b")], key=b"u1", headers={"h": b"v"})))

    (letter,) = publisher.of("clicks.dlq")
    assert (letter.key, letter.value, letter.headers["h"]) == (b"u1", b"{broken", b"v")
    assert letter.headers["dlq.reason"] == b"bad-json"
    assert (letter.headers["dlq.topic"], letter.headers["dlq.offset"]) == (b"clicks", b"1")
    assert counts(store) == (2, 0, 1)
    assert len(store.states["u1"].sequence) == 2


def test_a_record_that_fits_no_dead_letter_is_kept_in_part(fold, store, publisher):
    value, headers = b"x" * 3_000_000, {"h": b"v" * 2_000_000}
    fold.handle(batch(part("clicks", [value], key=b"u" * 1_000_000, headers=headers)))

    (letter,) = publisher.of("clicks.dlq")
    assert (letter.headers["dlq.reason"], letter.headers["dlq.offset"]) == (b"too-large", b"0")
    assert value.startswith(letter.value)
    assert letter.value
    assert size_of(letter) <= BROKER_MAX_MESSAGE_BYTES
    assert counts(store) == (0, 0, 1)


def test_a_redelivered_batch_changes_nothing_and_answers_the_position(fold, store, publisher):
    again = batch(part("clicks", [click("u1", "a")]))
    fold.handle(again)
    published = list(publisher.records)

    assert fold.handle(again) == {CLICKS: 1}
    assert counts(store) == (1, 0, 0)
    assert publisher.records == published


def test_positions_that_were_lost_are_counted_again_as_before(fold, store, publisher):
    values = [click("u1", "a", event_id="e"), click("u1", "a", event_id="e"), click("u1", "b", event_id="e"), b"{"]
    fold.handle(batch(part("clicks", values)))
    before, letters = counts(store), publisher.of("clicks.dlq")
    store._progress.clear()

    fold.handle(batch(part("clicks", values)))
    assert before == counts(store) == (1, 1, 2)
    assert publisher.of("clicks.dlq") == 2 * letters
    assert [event.item_id for event in store.states["u1"].sequence] == ["a"]


def test_a_store_that_was_emptied_sends_the_reader_back(fold, store, publisher):
    assert fold.handle(batch(part("clicks", [click("u1", "a")], start=5))) == {CLICKS: 0}
    assert (store.states, publisher.records) == ({}, [])


def test_nothing_is_stored_before_the_broker_has_the_derived_records(fold, store, publisher):
    publisher.failures = 1
    work = batch(part("clicks", [click("u1", "a")]))
    with pytest.raises(TransientError):
        fold.handle(work)
    assert store.states == {}

    fold.handle(work)
    assert counts(store) == (1, 0, 0)


def test_a_conflict_is_folded_again_into_what_is_there(store, publisher):
    class WrittenMeanwhile(MemoryInterestStore):
        """Lets another worker write the user's state between the first read and the first write."""

        interfered = False

        def compare_and_set(self, snapshot):
            if not self.interfered:
                self.interfered = True
                FoldInterests(self, MemoryPublisher(), FoldRules(50)).handle(
                    batch(part("clicks", [click("u1", "other", NOW_MS - 5)], partition=1))
                )
            return super().compare_and_set(snapshot)

    store = WrittenMeanwhile()
    fold = FoldInterests(store, publisher, FoldRules(50))
    work = batch(part("clicks", [click("u1", "mine")]))
    with pytest.raises(TransientError, match="another worker"):
        fold.handle(work)
    fold.handle(work)

    assert [event.item_id for event in store.states["u1"].sequence] == ["other", "mine"]
    assert store.states["u1"].version == 2


class FailingStore(MemoryInterestStore):
    """Refuses to write as often as `failures` says; with `lost_replies` it has written all the same."""

    failures = 0
    lost_replies = 0

    def compare_and_set(self, snapshot):
        if self.failures:
            self.failures -= 1
            raise TransientError("NOREPLICAS Not enough good replicas to write.")
        if self.lost_replies:
            self.lost_replies -= 1
            assert super().compare_and_set(copy.deepcopy(snapshot))
            raise TransientError("the connection broke before the reply")
        return super().compare_and_set(snapshot)


def test_nothing_is_published_again_while_only_the_write_fails(publisher):
    store = FailingStore()
    store.failures = 20
    fold = FoldInterests(store, publisher, FoldRules(50))
    work = batch(part("clicks", [click("u1", "a"), b"{broken", click("u2", "b")]))
    for _ in range(20):
        with pytest.raises(TransientError, match="NOREPLICAS"):
            fold.handle(work)

    assert fold.handle(work) == {CLICKS: 3}
    assert [record.topic for record in publisher.records] == ["user-interests", "user-interests", "clicks.dlq"]
    assert fold.tally.outcomes == {"applied": 2, "dead-lettered": 1}
    assert counts(store) == (2, 0, 1)


def test_a_write_whose_reply_was_lost_is_neither_repeated_nor_published_again(publisher):
    store = FailingStore()
    store.lost_replies = 1
    fold = FoldInterests(store, publisher, FoldRules(50))
    work = batch(part("clicks", [click("u1", "a")]))
    with pytest.raises(TransientError, match="before the reply"):
        fold.handle(work)
    with pytest.raises(TransientError, match="another worker"):
        fold.handle(work)

    assert fold.handle(work) == {CLICKS: 1}
    assert len(publisher.records) == 1
    assert counts(store) == (1, 0, 0)


def test_another_batch_is_folded_after_a_write_that_failed(publisher):
    store = FailingStore()
    store.failures = 1
    fold = FoldInterests(store, publisher, FoldRules(50))
    with pytest.raises(TransientError):
        fold.handle(batch(part("clicks", [click("u1", "a")])))
    # the partition went to another member and came back
    assert fold.handle(batch(part("clicks", [click("u1", "a"), click("u1", "b")]))) == {CLICKS: 2}
    assert len(store.states["u1"].sequence) == 2


def test_a_state_that_begins_again_does_not_go_back_in_its_version(fold, store, publisher):
    day_ms = 86_400_000
    for offset in range(5):
        fold.handle(batch(part("clicks", [click("u1", f"i{offset}", NOW_MS + offset)], start=offset)))
    del store.states["u1"]  # it expired, was evicted, or was deleted by hand
    records = part("clicks", [click("u1", "i9", NOW_MS + 200 * day_ms)], start=5)
    records.records[:] = [record._replace(timestamp_ms=NOW_MS + 200 * day_ms) for record in records.records]
    fold.handle(batch(records))

    *_, before, after = (json.loads(record.value) for record in publisher.of("user-interests"))
    assert (before["events_count"], after["events_count"]) == (5, 1)
    assert after["state_version"] > before["state_version"]


def test_mostly_bad_records_are_a_bad_deploy_and_stop_the_worker(fold, store, publisher):
    bad = DEAD_LETTER_WINDOW // 2 + 1
    good = DEAD_LETTER_WINDOW - bad
    work = batch(part("clicks", [b"{"] * bad + [click("u1", "a")] * good))
    with pytest.raises(TooManyDeadLettersError, match="501 of the last 1000"):
        fold.handle(work)
    assert publisher.records == []
    assert counts(store) == (0, 0, 0)


def test_an_operator_can_let_mostly_bad_records_through(store, publisher):
    fold = FoldInterests(store, publisher, FoldRules(50), dead_letter_limit=1.0)
    fold.handle(batch(part("clicks", [b"{"] * DEAD_LETTER_WINDOW)))
    assert counts(store) == (0, 0, DEAD_LETTER_WINDOW)


def test_a_few_bad_records_at_the_start_do_not_stop_the_worker(fold, store):
    fold.handle(batch(part("clicks", [b"{"] * 100)))
    assert counts(store) == (0, 0, 100)


def test_bad_records_count_once_however_often_their_batch_is_tried(fold, publisher):
    publisher.failures = DEAD_LETTER_WINDOW
    work = batch(part("clicks", [b"{"] * 2 + [click("u1", "a")]))
    for _ in range(DEAD_LETTER_WINDOW):
        with pytest.raises(TransientError):
            fold.handle(work)
    assert fold.handle(work) == {CLICKS: 3}


def test_the_summary_names_the_strongest_categories_and_items(fold, publisher):
    events = [click("u1", f"i{n}", NOW_MS + n, category=f"c{n % 12}") for n in range(24)]
    fold.handle(batch(part("clicks", [*events, click("u1", "i0", NOW_MS + 30, category="c0")])))

    interest = json.loads(publisher.of("user-interests")[0].value)
    assert len(interest["short_term"]) == 10
    assert next(iter(interest["short_term"].items())) == ("c0", 3.0)
    assert next(iter(interest["long_term_items"])) == "i0"
    assert interest["transitions"][0] == ["c0", "c1", 2]
    assert interest["events_count"] == 25


def test_a_record_made_after_the_store_came_back_older_is_not_taken_for_an_older_one(fold, store, publisher):
    def fold_each(*batches):
        for start, items in batches:
            events = [click("u1", item, NOW_MS + start + n) for n, item in enumerate(items)]
            fold.handle(batch(part("clicks", events, start=start)))

    fold_each((0, "a"))
    older = copy.deepcopy(store)
    fold_each((1, "b"), (2, "c"), (3, "d"))
    store.__dict__ = older.__dict__  # as a store that lost its newest writes
    fold_each((1, "bcd"), (4, "e"))

    records = [json.loads(record.value) for record in publisher.of("user-interests")]
    assert [record["events_count"] for record in records] == [1, 2, 3, 4, 4, 5]
    versions = [record["state_version"] for record in records]
    assert versions == sorted(versions), "each at least as high as the one before it"
    assert versions[3] == versions[4], "a function of the events, and of nothing that was lost"


def feedback(kind, item_id, offset, **fields):
    return click("u1", item_id, NOW_MS - 1_000 + offset, type=kind, **fields)


def test_feedback_is_published_with_the_sign_of_what_the_user_says(fold, store, publisher):
    rated = [feedback("rating", "b", 3, value=5), feedback("rating", "c", 4, value=1)]
    fold.handle(batch(part("feedback", [feedback("add_to_cart", "a", 1), feedback("dislike", "d", 2), *rated])))

    (record,) = publisher.of("user-interests")
    interest = json.loads(record.value)
    assert [(event[1], event[4]) for event in interest["sequence"]] == [(3, "a"), (-10, "d"), (9, "b"), (-9, "c")]
    assert interest["new"] == [[3, 0, 0], [10, 0, 1], [9, 0, 2], [9, 0, 3]]
    assert counts(store, TopicPartition("feedback", 0)) == (4, 0, 0)


def test_a_dislike_outlives_the_sequence_until_the_user_comes_back(store, publisher):
    fold = FoldInterests(store, publisher, FoldRules(2))
    fold.handle(batch(part("feedback", [feedback("dislike", "d", 0)])))
    for start, items in ((0, "abc"), (3, "d"), (4, "ef")):
        values = [click("u1", item, NOW_MS - 900 + start + n) for n, item in enumerate(items)]
        fold.handle(batch(part("clicks", values, start=start)))

    hidden = [json.loads(record.value).get("disliked_before") for record in publisher.of("user-interests")]
    assert hidden == [None, ["d"], None, ["d"]]


def test_weights_of_the_setting_decide_what_is_disliked(store, publisher):
    fold = FoldInterests(store, publisher, FoldRules(50, weights=read_weights("dislike=1,like=-1")))
    fold.handle(batch(part("feedback", [feedback("dislike", "a", 1), feedback("like", "b", 2)])))

    interest = json.loads(publisher.of("user-interests")[0].value)
    assert [event[1] for event in interest["sequence"]] == [10, -5]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (feedback("rating", "a", 0), "missing-field"),
        (feedback("rating", "a", 0, value=8), "bad-value"),
        (feedback("stare", "a", 0), "unknown-type"),
        (click("u1", "a"), "missing-field"),
    ],
)
def test_feedback_that_says_nothing_is_a_dead_letter_of_its_topic(fold, publisher, value, reason):
    fold.handle(batch(part("feedback", [value])))

    (letter,) = publisher.of("feedback.dlq")
    assert letter.headers["dlq.reason"].decode() == reason
    assert not publisher.of("user-interests")
