"""What the use cases tell of a batch, and the trace that goes with an event to its list."""

from __future__ import annotations

from builders import NOW_MS, batch, click, part
from doubles import MemoryInterestStore, MemoryPublisher
from list_doubles import CountingRanker, MemoryTopKStore

from streamrec.contracts.headers import MAX_TRACE_BYTES
from streamrec.domain.interest import FoldRules
from streamrec.service.batch import Batch, Record, Slice, TopicPartition
from streamrec.service.fold_interests import FoldInterests
from streamrec.service.make_lists import ListMaker
from streamrec.service.refresh_topk import RefreshTopK

TRACE = {"traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": b"shop=1"}
CLICKS = TopicPartition("clicks", 0)


def folded(*slices):
    """Return the use case and the publisher after one batch."""
    publisher = MemoryPublisher()
    fold = FoldInterests(MemoryInterestStore(), publisher, FoldRules(10))
    fold.handle(batch(*slices))
    return fold, publisher


def test_interests_tells_what_became_of_each_record():
    values = [click("u1", "i1", event_id="e"), click("u1", "i1", event_id="e"), b"{broken", click("u2", "i1")]
    fold, _ = folded(part("clicks", values))

    assert fold.tally.outcomes == {"applied": 2, "duplicate": 1, "dead-lettered": 1}
    assert fold.tally.outcomes.total() == len(values)
    assert fold.tally.refused == {("clicks", "bad-json"): 1}
    assert fold.tally.produced_at_ms == [NOW_MS, NOW_MS]


def test_a_batch_that_is_left_alone_tells_nothing():
    fold, _ = folded(part("clicks", [click("u1", "i1")]))
    fold.handle(batch(part("clicks", [click("u1", "i2")], start=7)))

    assert fold.tally.outcomes == {}


def test_a_trace_goes_from_the_event_to_the_list():
    _, interests = folded(part("clicks", [click("u1", "i1")], headers={**TRACE, "other": b"x"}))
    (interest,) = interests.of("user-interests")
    lists = MemoryPublisher()
    maker = ListMaker(CountingRanker(), top_k=5, arm_of=lambda _: "personal", now_ms=lambda: NOW_MS)
    refresh = RefreshTopK(MemoryTopKStore(), lists, maker)
    record = Record(0, NOW_MS, interest.key, interest.value, interest.headers)
    refresh.handle(Batch([Slice(TopicPartition("user-interests", 0), 0, 1, [record])]))

    assert interest.headers == TRACE
    assert lists.of("recommendations")[0].headers == TRACE
    assert refresh.tally.outcomes == {"lists": 1}
    assert refresh.tally.produced_at_ms == [NOW_MS]


def test_of_several_events_the_newest_one_names_the_trace():
    records = [
        Record(0, NOW_MS + 5, None, click("u1", "i1"), {"traceparent": b"newest"}),
        Record(1, NOW_MS, None, click("u1", "i2"), {"traceparent": b"older"}),
    ]
    _, publisher = folded(Slice(CLICKS, 0, 2, records))

    assert publisher.of("user-interests")[0].headers == {"traceparent": b"newest"}


def test_an_oversized_trace_is_left_out():
    _, publisher = folded(part("clicks", [click("u1", "i1")], headers={"traceparent": b"x" * (MAX_TRACE_BYTES + 1)}))

    assert publisher.of("user-interests")[0].headers == {}
