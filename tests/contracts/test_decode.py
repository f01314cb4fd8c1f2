"""One decoder for every reader: what it takes, what it refuses, and for which reason."""

from __future__ import annotations

import json

import msgspec
import pytest
from builders import NOW_MS, click
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrec.contracts.decode import (
    MAX_CLOCK_SKEW_MS,
    MAX_RECORD_BYTES,
    decode_event,
    decode_impression,
    decode_item,
    decode_own,
)
from streamrec.contracts.derived import EventPosition, TopKList, UserInterest
from streamrec.contracts.headers import MAX_MESSAGE_BYTES, DeadLetterHeaders
from streamrec.contracts.incoming import Click, Impression, Item, Purchase
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.contracts.model_update import ModelUpdate
from streamrec.contracts.model_version import ModelCommand
from streamrec.domain.event import EventType, Source
from streamrec.domain.event_context import CONTEXT_CODES, MAX_CONTEXT_KEYS
from streamrec.domain.interest import SequenceEvent
from streamrec.errors import BadRecordError
from streamrec.service.batch import TopicPartition

CLICKS = TopicPartition("clicks", 3)
PURCHASES = TopicPartition("purchases", 3)
SOURCES = [CLICKS, PURCHASES]
MANY = settings(max_examples=300, derandomize=True)


def decode(value, *, source=CLICKS, headers=None):
    return decode_event(source, 17, NOW_MS, value, headers or {})


def reason(value, *, source=CLICKS, headers=None):
    with pytest.raises(BadRecordError) as refused:
        decode(value, source=source, headers=headers)
    assert refused.value.detail
    return refused.value.reason


BAD = {
    "broken JSON": (b'{"user_id": "u1"', "bad-json"),
    "no bytes": (b"", "bad-json"),
    "two documents": (click("u1", "a") * 2, "bad-json"),
    "deeply nested": (b'{"x":' * 10_000 + b"1" + b"}" * 10_000, "bad-json"),
    "lone surrogate": (b'{"user_id":"\\ud800","item_id":"a","event_time_ms":1760000000000}', "bad-json"),
    "not UTF-8": (click("u\xff", "a").replace(b"\\u00ff", b"\xff"), "not-utf8"),
    "UTF-16": (click("u1", "a").decode().encode("utf-16"), "not-utf8"),
    "not an object": (b"[]", "wrong-type"),
    "JSON null": (b"null", "wrong-type"),
    "missing user": (b'{"item_id":"a","event_time_ms":1760000000000}', "missing-field"),
    "missing item": (b'{"user_id":"u1","event_time_ms":1760000000000}', "missing-field"),
    "missing time": (b'{"user_id":"u1","item_id":"a"}', "missing-field"),
    "user is null": (click(None, "a"), "wrong-type"),
    "user is a fraction": (click(1.5, "a"), "wrong-type"),
    "user is a boolean": (click(True, "a"), "wrong-type"),
    "user is NaN": (click(float("nan"), "a"), "bad-json"),
    "item is a list": (click("u1", ["a"]), "wrong-type"),
    "time is text": (click("u1", "a", "now"), "wrong-type"),
    "time is no whole number": (click("u1", "a", NOW_MS + 0.5), "wrong-type"),
    "unknown type": (click("u1", "a", type="view"), "unknown-type"),
    "infinity": (click("u1", "a", event_time_ms=float("inf")), "bad-json"),
    "empty user": (click("", "a"), "bad-value"),
    "empty item": (click("u1", ""), "bad-value"),
    "user of 10 kB": (click("u" * 10_000, "a"), "bad-value"),
    "item of 10 kB": (click("u1", "i" * 10_000), "bad-value"),
    "NUL in an id": (click("u\0", "a"), "bad-value"),
    "time in 1970": (click("u1", "a", 0), "bad-time"),
    "negative time": (click("u1", "a", -1), "bad-time"),
    "time in 2100": (click("u1", "a", 4_102_444_800_000), "bad-time"),
    "time beyond 64 bits": (click("u1", "a", 10**30), "bad-time"),
    "seconds for milliseconds": (click("u1", "a", NOW_MS // 1_000), "bad-time"),
    "1 MB": (click("u1", "a", context={"x": "y" * 1_048_576}), "too-large"),
    "null value": (None, "null-value"),
}


@pytest.mark.parametrize("source", SOURCES, ids=["clicks", "purchases"])
@pytest.mark.parametrize(("value", "expected"), BAD.values(), ids=BAD.keys())
def test_bad_record_is_refused_with_its_reason(value, expected, source):
    assert reason(value, source=source) == expected


def test_purchase_is_refused_as_a_click_and_taken_without_what_is_wrong_with_its_own_fields():
    assert reason(click("u1", "a", type="click"), source=PURCHASES) == "unknown-type"
    assert decode(click("u1", "a", price=float("nan"), quantity=0, currency="euro"), source=PURCHASES)


def test_record_at_the_size_limit_is_taken_and_one_byte_more_is_not():
    value = click("u1", "a")
    assert decode(value.ljust(MAX_RECORD_BYTES)).user_id == "u1"
    assert reason(value.ljust(MAX_RECORD_BYTES + 1)) == "too-large"


def test_an_event_from_a_clock_that_is_ahead_happened_when_its_record_was_produced():
    assert decode(click("u1", "a", NOW_MS - 1)).event_time_ms == NOW_MS - 1
    assert decode(click("u1", "a", NOW_MS + 1)).event_time_ms == NOW_MS
    assert decode(click("u1", "a", NOW_MS + MAX_CLOCK_SKEW_MS)).event_time_ms == NOW_MS
    assert reason(click("u1", "a", NOW_MS + MAX_CLOCK_SKEW_MS + 1)) == "bad-time"


def test_event_carries_its_fields_and_its_place():
    event = decode(click("u1", "a", NOW_MS, category="x", list_id="l1", unknown={"deep": [1]}))
    assert (event.user_id, event.item_id, event.event_time_ms) == ("u1", "a", NOW_MS)
    assert (event.category, event.list_id, event.id_hash) == ("x", "l1", None)
    assert (event.source, event.offset) == (Source(EventType.CLICK, 3), 17)


def test_event_id_names_the_event():
    one, same, other = (decode(click("u1", "a", event_id=name)).id_hash for name in ("e1", "e1", "e2"))
    assert one == same
    assert one != other


def test_events_of_one_id_differ_in_their_content():
    def content(item_id="a", at_ms=NOW_MS, **fields):
        return decode(click("u1", item_id, at_ms, event_id="e1", **fields)).content_hash

    assert content() == content(list_id="l1")
    assert content(at_ms=NOW_MS + 237) == content(), "an export in whole seconds has the same events"
    assert len({content(), content("b"), content(at_ms=NOW_MS - 1_000)}) == 3
    late = decode_event(CLICKS, 18, NOW_MS - 5, click("u1", "a", event_id="e1"), {})
    assert late.content_hash == content(), "what the producer said counts, whatever became of a clock that was ahead"


def test_cloudevents_id_and_source_name_the_event_and_go_first():
    def id_hash(event_id=None, **headers):
        return decode(click("u1", "a", event_id=event_id), headers=headers).id_hash

    named = id_hash(ce_id=b"1", ce_source=b"/shop")
    assert named == id_hash("x", ce_id=b"1", ce_source=b"/shop")
    assert len({named, id_hash(ce_id=b"1", ce_source=b"/app"), id_hash(ce_id=b"1"), id_hash("1"), id_hash()}) == 5


@pytest.mark.parametrize(
    ("ce_type", "kind"),
    [
        (b"click", "click"),
        (b"com.shop.click.v1", "click"),
        (b"com.example.shop.item_clicked", "click"),
        (b"com.example.Click.v1", "click"),
        (b"com.example.ITEM-CLICKED", "click"),
        (b"shop:ProductClicked", "click"),
        (b"com.shop.purchase", "purchase"),
        (b"com.shop.ItemPurchased", "purchase"),
        (b"com.click-shop.purchased", "purchase"),
        (b"com.doubleclick.view", None),
        (b"com.shop.clickety\xff", None),
        (b"com.shop.order", None),
        (b"", None),
    ],
)
def test_the_last_word_of_a_cloudevents_type_that_names_a_kind_decides(ce_type, kind):
    for source, own in ((CLICKS, "click"), (PURCHASES, "purchase")):
        if kind == own:
            assert decode(click("u1", "a"), source=source, headers={"ce_type": ce_type})
        else:
            assert reason(click("u1", "a"), source=source, headers={"ce_type": ce_type}) == "unknown-type"


def test_dead_letter_headers_are_text():
    headers = DeadLetterHeaders(
        topic="clicks",
        partition=3,
        offset=17,
        timestamp=NOW_MS,
        reason="bad-json",
        message="ü" * (MAX_MESSAGE_BYTES // 2),
        stage="interests",
        app_version="1",
    ).encode()
    assert headers["dlq.topic"] == b"clicks"
    assert headers["dlq.offset"] == b"17"
    assert len(headers["dlq.message"]) == MAX_MESSAGE_BYTES
    assert all(name.startswith("dlq.") for name in headers)


def nearly_a_click():
    """Return JSON that has the fields of a click and anything in them."""
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
        max_leaves=5,
    )
    fields = dict.fromkeys(Click.__struct_fields__, anything)
    return st.fixed_dictionaries({}, optional=fields).map(lambda value: json.dumps(value).encode())


@MANY
@given(
    value=st.binary() | nearly_a_click() | st.none(),
    source=st.sampled_from(SOURCES),
    headers=st.dictionaries(st.sampled_from(["ce_id", "ce_source", "ce_type", "x"]), st.binary()),
)
def test_anything_becomes_an_event_or_a_bad_record(value, source, headers):
    try:
        event = decode_event(source, 0, NOW_MS, value, headers)
    except BadRecordError:
        return
    assert event.user_id


@MANY
@given(value=st.binary() | nearly_a_click(), decoder=st.sampled_from([decode_item, decode_impression]))
def test_anything_becomes_an_item_or_an_impression_or_a_bad_record(value, decoder):
    try:
        message = decoder(value)
    except BadRecordError:
        return
    assert message.item_id if decoder is decode_item else message.list_id


@MANY
@given(value=st.binary() | st.just(b'{"roll_back_to": "\xff"}') | st.just(b"[" * 100_000) | st.none())
def test_anything_on_a_topic_of_our_own_becomes_a_message_or_a_bad_record(value):
    try:
        message = decode_own(msgspec.json.Decoder(ModelCommand), value)
    except BadRecordError:
        return
    assert isinstance(message.roll_back_to, str)


IDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=256)
TEXTS = st.text(max_size=256)
EVENT_TIMES = st.integers(631_152_000_000, NOW_MS)
TIMES = st.integers(0, 253_402_300_799_999)
TYPES, PARTITIONS, COUNTS = st.integers(0, 1), st.integers(0, 2**31 - 1), st.integers(0, 2**53)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
WEIGHTS = st.dictionaries(TEXTS, st.lists(FLOATS, min_size=3, max_size=3), max_size=3)
STRATEGIES = {
    **dict.fromkeys(("user_id", "item_id"), IDS),
    "event_time_ms": EVENT_TIMES,
    "type": st.nothing(),
    "category": st.none() | TEXTS,
    "price": st.none() | st.floats(0, 1e15),
    "currency": st.none() | st.from_regex(r"[A-Z]{3}", fullmatch=True),
    **dict.fromkeys(("event_id", "order_id"), st.none() | IDS),
}


def messages(struct, **strategies):
    known = {name: STRATEGIES[name] for name in struct.__struct_fields__ if name in STRATEGIES and name != "type"}
    return st.builds(struct, **{**known, **strategies})


CONTEXT = st.none() | st.dictionaries(
    st.text(min_size=1, max_size=64),
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | FLOATS | TEXTS,
    max_size=4,
)
OF_A_LIST = {"list_id": st.none() | IDS, "position": st.none() | st.integers(0, 9_999), "context": CONTEXT}
CODES = st.lists(st.integers(1, CONTEXT_CODES), max_size=MAX_CONTEXT_KEYS).map(tuple)
MESSAGES = [
    messages(Click, **OF_A_LIST),
    messages(Purchase, quantity=st.integers(1, 10**9), **OF_A_LIST),
    messages(Item, available=st.booleans(), title=st.none() | st.text(max_size=1_024)),
    messages(Impression, list_id=IDS, item_ids=st.lists(IDS, max_size=3)),
    messages(
        UserInterest,
        state_version=COUNTS,
        produced_at_ms=TIMES,
        short_term=st.dictionaries(TEXTS, FLOATS, max_size=3),
        long_term=WEIGHTS,
        long_term_items=WEIGHTS,
        transitions=st.lists(st.tuples(TEXTS, TEXTS, COUNTS), max_size=3),
        events_count=COUNTS,
        sequence=st.lists(
            st.builds(SequenceEvent, TIMES, TYPES, PARTITIONS, COUNTS, IDS, TEXTS, CODES), min_size=1, max_size=3
        ),
        new=st.lists(st.builds(EventPosition, TYPES, PARTITIONS, COUNTS), max_size=3),
    ),
    messages(
        TopKList,
        user_id=TEXTS,
        list_id=IDS,
        model_version=TEXTS,
        arm=TEXTS,
        items=st.builds(
            ListedItems.of,
            st.lists(st.builds(ListItem, IDS, FLOATS, st.builds(Reason, st.just("model"), st.none() | IDS))),
        ),
        **dict.fromkeys(("state_version", "produced_at_ms", "made_at_ms"), TIMES),
    ),
    messages(
        ModelUpdate,
        kind=st.sampled_from(["snapshot", "delta"]),
        model_version=IDS,
        base_version=TEXTS,
        payload=st.binary(),
        part=st.integers(0, 9),
        parts=st.integers(1, 9),
        newest_produced_at_ms=TIMES,
    ),
]


@MANY
@given(message=st.one_of(MESSAGES))
def test_message_survives_the_wire(message):
    assert msgspec.json.decode(msgspec.json.encode(message), type=type(message)) == message


FEEDBACK = TopicPartition("feedback", 3)


@pytest.mark.parametrize(
    ("fields", "percent"),
    [
        ({"type": "rating", "value": 4}, 80),
        ({"type": "rating", "value": 4, "scale": 10}, 40),
        ({"type": "rating", "value": 1, "scale": 1}, 100),
        ({"type": "rating", "value": 0}, 0),
        ({"type": "watch"}, 100),
        ({"type": "watch", "value": 900}, 100),
        ({"type": "watch", "value": 900, "scale": 3600}, 25),
        ({"type": "watch", "value": 900, "scale": 60}, 100),
        ({"type": "watch", "value": 1e9, "scale": 1e-300}, 100),
        ({"type": "like", "value": 3}, 0),
    ],
)
def test_a_grade_is_a_share_of_its_scale(fields, percent):
    assert decode(click("u1", "a", **fields), source=FEEDBACK).percent == percent


@pytest.mark.parametrize("scale", [0, -1, "ten", 1e300, []])
def test_a_rating_on_a_scale_that_cannot_be_read_is_refused(scale):
    assert reason(click("u1", "a", type="rating", value=4, scale=scale), source=FEEDBACK) == "bad-value"
    assert decode(click("u1", "a", type="like", scale=scale), source=FEEDBACK)


def test_another_grade_is_another_content():
    one, same, other = (
        decode(click("u1", "a", type="rating", value=value, event_id="e1"), source=FEEDBACK) for value in (5, 5, 1)
    )
    assert one.content_hash == same.content_hash != other.content_hash


@pytest.mark.parametrize(
    ("ce_type", "source", "kind"),
    [
        ("com.shop.click.from_cart", CLICKS, "click"),
        ("com.shop.purchase.rate", PURCHASES, "purchase"),
        ("com.shop.item_added_to_cart", FEEDBACK, "add_to_cart"),
        ("com.shop.Favorited.v2", FEEDBACK, "favourite"),
    ],
)
def test_a_cloud_event_names_a_kind_of_its_topic(ce_type, source, kind):
    value = click("u1", "a", **({"type": kind} if source is FEEDBACK else {}))
    assert decode(value, source=source, headers={"ce_type": ce_type.encode()})
    assert reason(value, source=source, headers={"ce_type": b"com.shop.sneezed"}) == "unknown-type"
