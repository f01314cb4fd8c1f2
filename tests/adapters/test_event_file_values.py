"""Values as pandas, spreadsheets and shops write them, each judged by the contract."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamrec.adapters.event_files import EventFile, FileOptions, FileTally, NoEvent, kind_of, read_items
from streamrec.contracts.incoming import Item, Purchase
from streamrec.domain.event import EventType
from streamrec.errors import StreamrecError

NOON_MS = 1_700_000_000_000
NOON = datetime.fromtimestamp(NOON_MS / 1_000, UTC)
HEADER = "user_id,item_id,event_type,timestamp"


def opened(folder, text, *, name="events.csv", encoding="utf-8", **options):
    (folder / name).write_bytes(text.encode(encoding))
    return EventFile.open(folder / name, FileOptions(**options))


def messages(file):
    return [event.message for event in file.events(category_of={})]


def parquet(folder, **columns):
    pq.write_table(pa.table(columns), folder / "events.parquet")
    return EventFile.open(folder / "events.parquet")


@pytest.mark.parametrize(
    "time",
    [
        "1700000000000",
        "1700000000000.0",
        "1.7e+12",
        "2023-11-14T22:13:20Z",
        "2023-11-14 22:13:20",
        "2023-11-14 22:13:20 UTC",
        "2023-11-14T23:13:20.000+01:00",
        "2023-11-14 22:13:20.000000001",
    ],
)
def test_times_are_read_as_pandas_and_iso_write_them(tmp_path, time):
    (click,) = messages(opened(tmp_path, f"{HEADER}\nu,i,view,{time}\n"))

    assert click.event_time_ms == NOON_MS


@pytest.mark.parametrize(
    "kind", [pa.timestamp("ns"), pa.timestamp("s", "UTC"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("ms")]
)
def test_times_of_parquet_are_instants(tmp_path, kind):
    time = pa.array([NOON_MS], pa.timestamp("ms")).cast(kind)
    (click,) = messages(parquet(tmp_path, user_id=["u"], item_id=["i"], event_type=["view"], timestamp=time))

    assert click.event_time_ms == NOON_MS


def test_whole_floats_are_ids_and_others_are_refused(tmp_path):
    rows = {"item_id": ["i"] * 4, "event_type": ["view"] * 4, "timestamp": [NOON_MS] * 4}
    file = parquet(tmp_path, user_id=[101.0, 1.5, float("nan"), 2.0**60], **rows)

    assert [click and click.user_id for click in messages(file)] == ["101", None, None, None]
    assert file.tally.refused == {"wrong-type": 2, "missing-field": 1}
    assert messages(opened(tmp_path, f"{HEADER}\n101.0,i,view,{NOON_MS}\n"))[0].user_id == "101"


def test_a_byte_order_mark_blanks_and_a_comma_at_the_end_are_no_data(tmp_path):
    lines = f"\ufeffuser_id, item_id , event_type, timestamp\n u, i , view, {NOON_MS},\n\n"
    for encoding in ("utf-8", "utf-16"):
        file = opened(tmp_path, lines.removeprefix("\ufeff" if encoding == "utf-16" else ""), encoding=encoding)
        (click,) = messages(file)

        assert (click.user_id, click.item_id, click.event_time_ms, click.context) == ("u", "i", NOON_MS, None)


def test_an_optional_field_that_the_contract_refuses_costs_the_field_and_not_the_event(tmp_path):
    rows = [
        'a,i,purchase,1700000000000,2.0,"12,50",b1,eur,short',
        f"b,i,purchase,1700000000000,0.75,€12.50,b2,EUR,{'x' * 300}",
        "c,i,purchase,1700000000000,-1,12.50,b3,EUR,",
        "d,i,purchase,1700000000000,,,,,",
    ]
    file = opened(tmp_path, "\n".join([f"{HEADER},quantity,unit_price,basket_id,currency,referrer", *rows]))
    first, second, returned, fourth = messages(file)

    assert first == Purchase(
        user_id="a",
        item_id="i",
        event_time_ms=NOON_MS,
        event_id=f"{file.digest}:0",
        quantity=2,
        price=12.5,
        currency="EUR",
        order_id="b1",
        context={"referrer": "short"},
    )
    assert (second.quantity, second.price, second.order_id, second.context) == (1, None, "b2", None)
    assert (returned.type, fourth.price) == ("return", None)
    assert file.tally.dropped == {"quantity": 1, "price": 1, "context.referrer": 1}
    assert file.tally.examples["price"].value == "€12.50"
    assert not file.tally.left_out


def test_event_types_of_others_are_understood_and_what_is_no_interest_is_left_out():
    named = {
        EventType.CLICK: "VIEW page_view view_item click pv",
        EventType.PURCHASE: "transaction buy order purchase Purchase Orders",
        EventType.ADD_TO_CART: "addtocart add-to-cart cart",
        EventType.FAVOURITE: "favorite favourite wishlist",
        EventType.WATCH: "play listen",
        EventType.RATING: "rating",
        EventType.DISLIKE: "dislike",
        EventType.RETURN: "return refund",
        NoEvent.LEFT_OUT: "remove_from_cart impression search",
        NoEvent.UNKNOWN: "unheard",
    }
    for kind, names in named.items():
        assert {kind_of(name) for name in names.split()} == {kind}


@pytest.mark.parametrize(("best", "percent"), [("4.5", 90), ("9", 90), ("90", 90)])
def test_ratings_are_read_on_the_scale_that_they_need(tmp_path, best, percent):
    rows = [f"u,i,rating,1700000000000,{best}", "u,j,rating,1700000000000,1"]
    (rated, _) = messages(opened(tmp_path, "\n".join([f"{HEADER},rating", *rows]), time_unit="ms"))

    assert (rated.type, round(100 * rated.value / rated.scale)) == ("rating", percent)


def test_the_scale_of_ratings_is_that_of_ratings_and_can_be_given(tmp_path):
    rows = ["u,i,rating,1700000000000,4", "u,j,view,1700000000000,49.9"]
    text = "\n".join([f"{HEADER},value", *rows])
    assert messages(opened(tmp_path, text, time_unit="ms"))[0].scale == 5
    assert messages(opened(tmp_path, text, time_unit="ms", best_rating=8.0))[0].scale == 8


def test_a_dump_of_feedback_is_read_as_it_was_written(tmp_path):
    own = {"user_id": "u", "item_id": "i", "event_time_ms": NOON_MS}
    sent = [
        own | {"type": "view"},
        own | {"type": "rating", "value": 4.0},
        own | {"type": "watch", "value": 9, "scale": 90},
    ]
    lines = [
        json.dumps({"topic": "shop.feedback", "partition": 0, "offset": n, "value": each})
        for n, each in enumerate(sent)
    ]
    read = messages(opened(tmp_path, "\n".join(lines), name="dump.jsonl"))

    assert [(each.type, each.value, each.scale) for each in read] == [
        ("view", None, None),
        ("rating", 4.0, None),
        ("watch", 9.0, 90.0),
    ]


def test_a_review_without_a_rating_is_a_comment(tmp_path):
    rows = ["u,i,review,1700000000000,", "u,j,review,1700000000000,2"]
    file = opened(tmp_path, "\n".join([f"{HEADER},rating", *rows]), time_unit="ms")

    assert [message.type for message in messages(file)] == ["comment", "rating"]


def test_rows_are_judged_by_the_contract_and_counted_by_reason_with_an_example(tmp_path):
    rows = ["u,i,view,1700000000000"] * 5 + ["u,i,view,5", ",i,view,1700000000000", "u,i,search,1700000000000"]
    file = opened(tmp_path, "\n".join([HEADER, *rows]), time_unit="ms")
    taken = messages(file)

    assert [message is not None for message in taken] == [True] * 5 + [False] * 3
    assert file.tally.refused == {"bad-time": 1, "missing-field": 1}
    assert file.tally.left_out == {"search": 1}
    example = file.tally.examples["bad-time"]
    assert (example.row, example.column, example.value) == (5, "timestamp", "5")
    assert file.tally.examples["missing-field"].column == "user_id"
    file.tally.check(file.path)


def test_bytes_that_are_no_text_cost_their_row_alone(tmp_path):
    path = tmp_path / "events.csv"
    path.write_bytes(f"{HEADER}\n".encode() + b"\xff\xfe,i,view,1700000000000\nu,i,view,1700000000000\n")
    file = EventFile.open(path)

    assert [message is not None for message in messages(file)] == [False, True]
    assert file.tally.refused == {"not-utf8": 1}


@pytest.mark.parametrize(
    "rows",
    [
        ["u,i,aardvark,1700000000000"] * 3,
        ["u,i,search,1700000000000"] * 3,
        ["u,i,view,5", "u,i,view,5", "u,i,view,1700000000000"],
        [],
    ],
)
def test_a_file_of_which_little_was_taken_is_refused_with_an_example(tmp_path, rows):
    file = opened(tmp_path, "\n".join([HEADER, *rows]), time_unit="ms")
    messages(file)

    with pytest.raises(StreamrecError, match=rf"events.csv: \d events accepted from {len(rows)} rows"):
        file.tally.check(file.path)


def test_values_of_any_type_are_judged_and_break_nothing(tmp_path):
    odd = [None, True, 1.5, -1, 10**30, [1], {"a": 1}, "", " ", "x" * 300, "\x00", "a\ud800"]
    good = {"user_id": "u", "item_id": "i", "event_type": "buy", "timestamp": NOON_MS}
    fields = (*good, "event_id", "list_id", "position", "price", "quantity", "currency", "category", "context", "more")
    rows = [good | {name: value} for name in fields for value in odd]
    file = opened(tmp_path, "\n".join(map(json.dumps, [good, *rows])), name="events.jsonl")

    assert len(messages(file)) == len(rows) + 1
    assert file.tally.taken + file.tally.skipped.total() == len(rows) + 1
    assert file.tally.taken > len(rows) / 2


def test_reasons_are_bounded(tmp_path):
    file = opened(tmp_path, "\n".join([HEADER, *(f"u,i,type {n},1700000000000" for n in range(500))]))
    messages(file)

    assert len(file.tally.refused) <= 51
    assert file.tally.refused.total() == 500


CATALOGUE = [
    {
        "item_id": "a",
        "available": "false",
        "category": "shoes",
        "title": "Red shoe",
        "price": "12.5",
        "currency": "eur",
    },
    {"item_id": "b", "available": "", "category": "", "title": "t" * 2_000, "price": "free", "currency": ""},
    {"item_id": "c", "available": "perhaps", "category": "", "title": "", "price": "", "currency": ""},
    {"item_id": "", "available": "", "category": "hats", "title": "", "price": "", "currency": ""},
]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".csv.gz"])
def test_a_catalogue_has_every_field_of_the_contract_in_every_format(tmp_path, suffix):
    path = tmp_path / f"items{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(CATALOGUE), path)
    elif suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, CATALOGUE)))
    else:
        text = "\n".join([",".join(CATALOGUE[0]), *(",".join(row.values()) for row in CATALOGUE)])
        path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode())
    tally = FileTally()
    items = list(read_items(path, tally))

    assert items == [
        Item(item_id="a", available=False, category="shoes", title="Red shoe", price=12.5, currency="EUR"),
        Item(item_id="b"),
        Item(item_id="c", available=False),  # what is not clear is not for sale
    ]
    assert (tally.taken, tally.skipped.total(), tally.dropped) == (3, 1, {"title": 1, "price": 1, "available": 1})
    (tmp_path / "events.csv").write_text(f"{HEADER}\nu,a,view,1700000000000\n")
    assert EventFile.open(tmp_path).items_path == path
