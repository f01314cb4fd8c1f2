"""Required fields are judged, optional ones are dropped by name: one bad optional field never costs the record."""

from __future__ import annotations

import json

import pytest
from builders import NOW_MS, click
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrec.contracts.decode import decode_event, decode_impression, decode_item, deleted_by, withdrawn_by
from streamrec.contracts.incoming import Click, Purchase
from streamrec.errors import BadRecordError
from streamrec.service.batch import TopicPartition

CLICKS, PURCHASES = TopicPartition("clicks", 3), TopicPartition("purchases", 3)
ADDRESS = "https://shop.example/" + "q" * 300


def decode(value, source=CLICKS, timestamp_ms=NOW_MS, **headers):
    dropped: list[str] = []
    return decode_event(source, 17, timestamp_ms, value, headers, dropped=dropped), dropped


def refusal(value, source=CLICKS, timestamp_ms=NOW_MS, **headers):
    with pytest.raises(BadRecordError) as refused:
        decode(value, source, timestamp_ms, **headers)
    return refused.value


DROPPED = {
    "context of 300 characters": ({"context": {"page": ADDRESS, "device": "phone"}}, ["context.page"]),
    "nested context": ({"context": {"device": {"os": "x"}, "tags": ["a"], "n": 1}}, ["context.device", "context.tags"]),
    "context with an empty key": ({"context": {"": 1}}, ["context."]),
    "NaN in the context": ({"context": {"score": float("nan")}}, ["context.score"]),
    "context is text": ({"context": "phone"}, ["context"]),
    "context with a key that moves the cursor": ({"context": {"\x1b[2J": []}}, ["context.?[2J"]),
    "category is an object": ({"category": {"id": 1}}, ["category"]),
    "category of objects": ({"category": [{"id": 1}]}, ["category"]),
    "category is a boolean": ({"category": True}, ["category"]),
    "category of 300 characters": ({"category": "c" * 300}, ["category"]),
    "event id is an object": ({"event_id": {}}, ["event_id"]),
    "event id of 300 characters": ({"event_id": "e" * 300}, ["event_id"]),
    "list id with a NUL": ({"list_id": "l\0"}, ["list_id"]),
    "position below zero": ({"position": -1}, ["position"]),
    "position of a fraction": ({"position": 1.5}, ["position"]),
    "position beyond 64 bits": ({"position": 10**30}, ["position"]),
    "quantity of a fraction": ({"quantity": 0.75}, ["quantity"]),
    "quantity zero": ({"quantity": 0}, ["quantity"]),
    "quantity below zero": ({"quantity": -1}, ["quantity"]),
    "price with a comma": ({"price": "12,50"}, ["price"]),
    "price with a sign": ({"price": "€12.50"}, ["price"]),
    "price is NaN": ({"price": float("nan")}, ["price"]),
    "price is infinite": ({"price": float("inf")}, ["price"]),
    "price is a boolean": ({"price": True}, ["price"]),
    "price below zero": ({"price": -1}, ["price"]),
    "currency is a sign": ({"currency": "€"}, ["currency"]),
    "currency is a number": ({"currency": 978}, ["currency"]),
    "order id is a list": ({"order_id": [1]}, ["order_id"]),
    "price of 400 digits": ({"price": 10**400}, ["price"]),
    "position of 400 digits": ({"position": 10**400}, ["position"]),
    "category of 400 digits": ({"category": 10**400}, ["category"]),
    "category is a large float": ({"category": 1e300}, ["category"]),
    "several at once": ({"category": [[]], "price": "?", "quantity": "two"}, ["category", "quantity", "price"]),
}


@pytest.mark.parametrize(("fields", "names"), DROPPED.values(), ids=DROPPED.keys())
def test_one_bad_optional_field_is_dropped_by_name_and_costs_nothing_else(fields, names):
    event, dropped = decode(click("u1", "a", **fields), PURCHASES)
    assert (event.user_id, event.item_id, event.event_time_ms) == ("u1", "a", NOW_MS)
    assert dropped == names


READ = {
    "ids are whole numbers": ({"user_id": 42, "item_id": 1001}, {"user_id": "42", "item_id": "1001"}),
    "ids are floats of pandas": ({"user_id": 42.0, "item_id": -7.0}, {"user_id": "42", "item_id": "-7"}),
    "time is a float": ({"event_time_ms": float(NOW_MS - 5)}, {"event_time_ms": NOW_MS - 5}),
    "time in digits": ({"event_time_ms": str(NOW_MS - 5)}, {"event_time_ms": NOW_MS - 5}),
    "category is a number": ({"category": 17}, {"category": "17"}),
    "category is a path": ({"category": ["Shoes", "Boots"]}, {"category": "Shoes/Boots"}),
    "empty path": ({"category": []}, {"category": ""}),
    "empty texts": ({"category": "", "event_id": "", "list_id": ""}, {"id_hash": None, "list_id": ""}),
    "list id is a number": ({"list_id": 5}, {"list_id": "5"}),
    "position is a float": ({"position": 3.0}, {}),
    "quantity in digits": ({"quantity": "2"}, {}),
    "price in decimals": ({"price": "12.50"}, {}),
    "currency in lower case": ({"currency": " eur"}, {}),
    "empty currency": ({"currency": "", "order_id": ""}, {}),
    "order id is a number": ({"order_id": 5001}, {}),
    "type in another case": ({"type": "PURCHASE"}, {}),
    "NaN in a field of others": ({"score": float("nan")}, {}),
    "nulls": (
        dict.fromkeys(
            ["type", "event_id", "category", "list_id", "position", "quantity", "price", "currency", "context"]
        ),
        {"category": "", "list_id": "", "id_hash": None},
    ),
}


@pytest.mark.parametrize(("fields", "expected"), READ.values(), ids=READ.keys())
def test_what_is_clear_in_another_spelling_is_read(fields, expected):
    event, dropped = decode(click(**{"user_id": "u1", "item_id": "a", **fields}), PURCHASES)
    assert dropped == []
    assert {name: getattr(event, name) for name in expected} == expected


def test_an_event_id_is_the_same_as_text_and_as_a_number():
    numbers = [decode(click("u1", "a", event_id=event_id))[0].id_hash for event_id in (17, 17.0, "17")]
    assert len(set(numbers)) == 1


def test_a_byte_order_mark_is_passed_over():
    assert decode(b"\xef\xbb\xbf" + click("u1", "a"))[0] == decode(click("u1", "a"))[0]


TIMES = {
    "seconds": (NOW_MS // 1_000, ["looks like seconds", str(NOW_MS)]),
    "seconds with a fraction": (NOW_MS / 1_000 + 0.5, ["looks like seconds"]),
    "microseconds": (NOW_MS * 1_000, ["looks like microseconds", str(NOW_MS)]),
    "nanoseconds": (NOW_MS * 1_000_000, ["looks like nanoseconds"]),
    "seconds in digits": (str(NOW_MS // 1_000), ["looks like seconds"]),
    "ISO 8601": ("2025-10-09T08:53:20Z", ["looks like ISO 8601", str(NOW_MS)]),
    "ISO 8601 without a zone": ("2025-10-09 08:53:20", ["looks like ISO 8601", "has no time zone"]),
    "nothing at all": (5, ["not between 1990 and 9999"]),
    "beyond all numbers": (10**60, ["not between 1990 and 9999"]),
}


@pytest.mark.parametrize(("event_time", "said"), TIMES.values(), ids=TIMES.keys())
def test_a_wrong_time_is_refused_with_what_it_looks_like(event_time, said):
    error = refusal(click("u1", "a", event_time))
    assert error.reason == "bad-time"
    assert all(words in error.detail for words in said), error.detail


def test_a_record_time_in_seconds_is_not_blamed_on_the_event():
    error = refusal(click("u1", "a"), timestamp_ms=NOW_MS // 1_000)
    assert error.reason == "bad-time"
    assert f"event_time_ms {NOW_MS} (2025-10-09T08:53:20Z)" in error.detail
    assert f"{NOW_MS // 1_000} (1970-01-21" in error.detail
    assert "the record's timestamp looks like seconds" in error.detail
    assert "looks like" not in refusal(click("u1", "a", NOW_MS + 10**9)).detail


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1e400", "-1e308", "1" + "0" * 5_000])
@pytest.mark.parametrize("field", ["user_id", "item_id", "event_time_ms"])
def test_a_number_beyond_all_bounds_is_refused_and_ends_nobody(field, number):
    value = json.dumps({"user_id": "u1", "item_id": "a", "event_time_ms": NOW_MS, field: "?"}).replace('"?"', number)
    assert refusal(value.encode()).reason in {"bad-time", "wrong-type", "bad-value", "bad-json"}


def test_an_optional_number_that_nothing_can_read_is_dropped():
    value = click("u1", "a", price="?").replace(b'"?"', b"1" + b"0" * 5_000)
    assert decode(value, PURCHASES)[1] == ["price"]


MANY = settings(max_examples=200, derandomize=True)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([10**30, -(10**400)]) | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=5,
)
REQUIRED = {"user_id": "u1", "item_id": "a", "event_time_ms": NOW_MS}


@MANY
@given(data=st.data(), source=st.sampled_from([CLICKS, PURCHASES]))
def test_nothing_in_the_optional_fields_costs_a_record(data, source):
    message_type = Click if source is CLICKS else Purchase
    optional = set(message_type.__struct_fields__) - {*REQUIRED, "type"}
    fields = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(sorted(optional), ANYTHING)))
    try:
        value = json.dumps(REQUIRED | fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # surrogates are no text
        return
    event, dropped = decode(value, source)
    assert event.item_id == "a"
    assert {name.split(".")[0] for name in dropped} <= fields.keys()


def item(**fields):
    return json.dumps({"item_id": "toy", **fields}).encode()


AVAILABLE = {
    "true": (True, True),
    "false": (False, False),
    "text true": ("true", True),
    "text False": ("False", False),
    "no": ("no", False),
    "zero": (0, False),
    "one": (1, True),
    "zero as a float": (0.0, False),
    "null": (None, False),
    "no text at all": ("", False),
    "a word": ("sold out", False),
    "an object": ({"status": "in stock"}, False),
}


@pytest.mark.parametrize(("said", "expected"), AVAILABLE.values(), ids=AVAILABLE.keys())
@pytest.mark.parametrize("also", [{}, {"currency": "dollars", "price": "?", "title": ["x"]}], ids=["alone", "beside"])
def test_available_is_obeyed_whatever_else_is_bad_and_withdraws_where_it_is_unclear(said, expected, also):
    dropped: list[str] = []
    assert decode_item(item(available=said, **also), b"toy", dropped=dropped).available is expected
    assert ("available" in dropped) is (said is None or said in ("", "sold out") or isinstance(said, dict))


REFUSED_WITHDRAWALS = {
    "no id": (b'{"available": false}', b"toy", ("toy",)),
    "id is a list": (b'{"item_id": ["toy"], "available": "false"}', b"toy", ("toy",)),
    "another key": (item(available=False), b"shop-7", ("toy",)),
    "too large": (item(available=0, note="x" * 70_000), b"toy", ("toy",)),
    "in a CloudEvent": (b'{"specversion":"1.0","data":{"available":false}}', b"toy", ("toy",)),
    "not withdrawn": (b'{"available": true}', b"toy", ()),
    "nothing said": (b"{}", b"toy", ()),
    "no JSON": (b"{", b"toy", ()),
    "no key": (b'{"available": false}', None, ()),
}


@pytest.mark.parametrize(("value", "key", "expected"), REFUSED_WITHDRAWALS.values(), ids=REFUSED_WITHDRAWALS.keys())
def test_a_refused_record_withdraws_its_item_all_the_same(value, key, expected):
    with pytest.raises(BadRecordError):
        decode_item(value, key)
    assert withdrawn_by(value, key) == expected


KEYS = {
    "bare": b"toy",
    "JSON text": b'"toy"',
    "JSON object": b'{"item_id": "toy"}',
    "JSON object of a database": b'{"id":"toy"}',
    "Connect": b'{"schema":{"type":"struct"},"payload":{"id":"toy"}}',
    "Connect text": b'{"schema":{"type":"string"},"payload":"toy"}',
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
def test_put_and_delete_with_one_key_name_the_same_item(key):
    assert decode_item(item(), key).item_id == "toy"
    assert "toy" in deleted_by(key)


def test_a_number_as_a_key_names_the_item_of_that_number():
    assert decode_item(b'{"item_id": 17}', b"17").item_id == "17"
    assert "17" in deleted_by(b'{"id": 17}')


@pytest.mark.parametrize("key", [b"item:toy", b"", b"\0\0\0\0\0\0\0\x11", b"\xff", b'{"sku": "toy"}', b"x" * 5_000])
def test_a_key_that_is_not_the_item_is_refused_loudly(key):
    with pytest.raises(BadRecordError) as refused:
        decode_item(item(), key)
    assert refused.value.reason == "bad-key"


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"\0\0\0\x11"])
def test_a_deletion_that_names_nothing_is_refused(key):
    with pytest.raises(BadRecordError, match="bad-key"):
        deleted_by(key)


def test_an_impression_keeps_the_items_that_are_some():
    dropped: list[str] = []
    value = {"user_id": 1, "list_id": 2, "event_time_ms": NOW_MS, "item_ids": ["a", 3, "", None]}
    impression = decode_impression(json.dumps(value).encode(), dropped=dropped)
    assert (impression.user_id, impression.list_id, impression.item_ids) == ("1", "2", ["a", "3"])
    assert dropped == ["item_ids"]
