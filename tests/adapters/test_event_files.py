"""Files of events in all formats."""

from __future__ import annotations

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamrec.adapters.event_files import UNREADABLE, EventFile, read_items
from streamrec.contracts.decode import decode_event
from streamrec.contracts.incoming import Click, Feedback, Purchase
from streamrec.errors import UsageError
from streamrec.playback.records import event_record

NOON_MS = 1_700_000_000_000

ROWS = [
    {"user_id": 7, "item_id": "85123A", "event_type": "view", "timestamp": NOON_MS, "value": 1.0, "country": "FR"},
    {
        "user_id": 8,
        "item_id": "71053",
        "event_type": "purchase",
        "timestamp": NOON_MS + 1,
        "value": 9.9,
        "country": "DE",
    },
    {"user_id": 7, "item_id": "71053", "event_type": "return", "timestamp": NOON_MS + 2, "value": 1.0, "country": "FR"},
]


def write(folder, suffix, rows, name="events"):
    path = folder / f"{name}{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path, **options):
    return list(EventFile.open(path).events(category_of={}, **options))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_all_formats_say_the_same(tmp_path, suffix):
    file = EventFile.open(write(tmp_path, suffix, ROWS))
    view, purchase, returned = file.events(category_of={"71053": "lamps"})

    assert file.rows == 3
    assert view.message == Click(
        user_id="7",
        item_id="85123A",
        event_time_ms=NOON_MS,
        event_id=f"{file.digest}:0",
        context={"country": "FR"},
    )
    assert isinstance(purchase.message, Purchase)
    assert (purchase.message.category, purchase.message.event_id) == ("lamps", f"{file.digest}:1")
    assert returned.message == Feedback(
        user_id="7",
        item_id="71053",
        event_time_ms=NOON_MS + 2,
        type="return",
        event_id=f"{file.digest}:2",
        category="lamps",
        context={"country": "FR"},
    )


@pytest.mark.parametrize("event_type", ["favourite", "add_to_cart", "rating", "dislike", "return"])
def test_feedback_keeps_its_kind(tmp_path, event_type):
    (event,) = read(write(tmp_path, ".jsonl", [ROWS[0] | {"event_type": event_type}]))

    assert event.message.type == event_type
    assert getattr(event.message, "value", None) == (1.0 if event_type == "rating" else None)


def test_a_purchase_carries_quantity_price_and_order(tmp_path):
    row = ROWS[1] | {"quantity": 6, "unit_price": 2.5, "basket_id": "b1"}
    for suffix in (".parquet", ".csv", ".jsonl"):
        (event,) = read(write(tmp_path, suffix, [row]))

        assert (event.message.quantity, event.message.price, event.message.order_id) == (6, 2.5, "b1")
        assert event.message.context == {"country": "DE"}


def test_what_is_read_is_what_the_pipeline_takes(tmp_path):
    for event in read(write(tmp_path, ".parquet", ROWS)):
        if event.message is not None:
            record = event_record(event.message)
            decoded = decode_event((record.topic, 0), 0, NOON_MS, record.value, {})

            assert decoded.user_id == event.message.user_id


def test_the_digest_names_the_bytes_and_not_the_path(tmp_path):
    (tmp_path / "other").mkdir()
    first, copy = write(tmp_path, ".jsonl", ROWS), write(tmp_path / "other", ".jsonl", ROWS)
    changed = write(tmp_path, ".jsonl", ROWS[:2], name="changed")

    assert EventFile.open(first).digest == EventFile.open(copy).digest
    assert EventFile.open(first).digest != EventFile.open(changed).digest


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_skip_and_limit_count_rows_and_keep_their_numbers(tmp_path, suffix):
    rows = [ROWS[0] | {"user_id": n} for n in range(20_000)]
    events = read(write(tmp_path, suffix, rows), skip=9_000, limit=3)

    assert [event.row for event in events] == [9_000, 9_001, 9_002]
    assert [event.message.user_id for event in events] == ["9000", "9001", "9002"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_missing_columns_are_named(tmp_path, suffix):
    rows = [{"user_id": 1, "product": 2, "timestamp": NOON_MS}]
    with pytest.raises(UsageError, match="no column item_id, event_type; columns: user_id, product, timestamp"):
        EventFile.open(write(tmp_path, suffix, rows))


def test_a_row_that_makes_no_sense_is_counted_and_the_next_one_read(tmp_path):
    path = tmp_path / "events.jsonl"
    good = json.dumps(ROWS[0])
    bad = ["{broken", json.dumps(ROWS[0] | {"timestamp": "noon"}), json.dumps(ROWS[0] | {"user_id": None})]
    path.write_text("\n".join([good, *bad, good]))
    events = read(path)

    assert [event.skipped for event in events] == ["", UNREADABLE, "wrong-type", "missing-field", ""]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("events.txt", b"x", "no column user_id"),
        ("events.parquet", b"PAR1 no parquet", "events.parquet: "),
        ("events.csv.gz", gzip.compress(b"user_id,item_id\n" * 9, mtime=0)[:-9], "events.csv.gz: "),
        ("events.zip", b"PK\x03\x04", "unpack it first"),
        ("events.jsonl", b"", "the file is empty"),
        ("events.json", b'[{"user_id": 1}]', "one object per line"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_users_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        EventFile.open(tmp_path / name)


def test_a_folder_stands_for_its_events(tmp_path):
    path = write(tmp_path, ".csv", ROWS)

    assert EventFile.open(tmp_path).path == path
    with pytest.raises(UsageError, match="no such file"):
        EventFile.open(tmp_path / "nothing")
    path.unlink()
    with pytest.raises(UsageError, match="no events"):
        EventFile.open(tmp_path)


@pytest.mark.parametrize(
    ("row", "category", "price"),
    [
        ({"item_id": 1, "category_id": 42}, "42", None),
        ({"item_id": 1, "title": "Lamp", "median_price": 2.5}, None, 2.5),
        ({"item_id": 1, "genres": "News|Sport", "price": 3}, "News|Sport", 3.0),
    ],
)
def test_a_catalogue_has_categories_and_prices_under_several_names(tmp_path, row, category, price):
    (item,) = read_items(write(tmp_path, ".parquet", [row], name="items"))

    assert (item.item_id, item.category, item.price) == ("1", category, price)
