"""Files of the trade: each format is recognised, and read as its rows mean."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest

from streamrec.adapters.event_files import EventFile, FileOptions
from streamrec.contracts.incoming import Click
from streamrec.errors import UsageError

NOON_MS = 1_700_000_000_000
NOON_S = NOON_MS // 1_000
DUMPED = {"user_id": "u1", "item_id": "i1", "event_time_ms": NOON_MS, "event_id": "E1", "list_id": "l1", "position": 3}

RETAILROCKET = f"""timestamp,visitorid,event,itemid,transactionid
{NOON_MS},11,view,101,
{NOON_MS},11,addtocart,101,
{NOON_MS},11,transaction,101,7
"""
FORMATS = {
    "topic dump": (
        "clicks.jsonl",
        json.dumps(DUMPED | {"type": "click"}),
        ("streamrec", [("click", "u1", "i1", NOON_MS)]),
    ),
    "topic dump whose records have no type": (
        "shop2.purchases.jsonl",
        json.dumps(DUMPED),
        ("table", [("purchase", "u1", "i1", NOON_MS)]),
    ),
    "topic dump by kcat -J": (
        "dump.json",
        json.dumps({"topic": "purchases", "partition": 0, "offset": 9, "key": "u1", "payload": json.dumps(DUMPED)})
        + "\n"
        + json.dumps({"topic": "items", "partition": 0, "offset": 9, "key": "i1", "payload": "{}"}),
        ("streamrec", [("purchase", "u1", "i1", NOON_MS)]),
    ),
    "RecBole": (
        "set.inter",
        f"user_id:token\titem_id:token\trating:float\ttimestamp:float\nA1\tB1\t5.0\t{NOON_S}\n",
        ("recbole", [("rating", "A1", "B1", NOON_MS)]),
    ),
    "RecBole without ratings": (
        "set.inter",
        f"session_id:token\titem_id:token\ttimestamp:float\nA1\tB1\t{NOON_S}\n",
        ("recbole", [("click", "A1", "B1", NOON_MS)]),
    ),
    "MovieLens .dat": (
        "ratings.dat",
        f"1::11::5::{NOON_S}\r\n2::12::1::{NOON_S + 1}\r\n",
        ("movielens", [("rating", "1", "11", NOON_MS), ("rating", "2", "12", NOON_MS + 1_000)]),
    ),
    "MovieLens u.data": ("u.data", f"196\t242\t3\t{NOON_S}\n", ("movielens", [("rating", "196", "242", NOON_MS)])),
    "MovieLens .csv": (
        "ratings.csv",
        f"userId,movieId,rating,timestamp\n1,11,3.5,{NOON_S}\n",
        ("movielens", [("rating", "1", "11", NOON_MS)]),
    ),
    "RetailRocket": (
        "events.csv",
        RETAILROCKET,
        ("retailrocket", [(kind, "11", "101", NOON_MS) for kind in ("click", "add_to_cart", "purchase")]),
    ),
    "OTTO": (
        "train.jsonl",
        json.dumps(
            {
                "session": 7,
                "events": [
                    {"aid": 101, "ts": NOON_MS, "type": "clicks"},
                    {"aid": 102, "ts": NOON_MS + 1, "type": "carts"},
                    {"aid": 102, "ts": NOON_MS + 2, "type": "orders"},
                ],
            }
        ),
        (
            "otto",
            [
                ("click", "7", "101", NOON_MS),
                ("add_to_cart", "7", "102", NOON_MS + 1),
                ("purchase", "7", "102", NOON_MS + 2),
            ],
        ),
    ),
    "MIND": (
        "behaviors.tsv",
        "1\tU1\t11/14/2023 10:13:20 PM\tN5 N6\tN1-1 N2-0 N3-1\n2\tU2\t11/14/2023 10:13:20 PM\t\tN4-0\n",
        ("mind", [("click", "U1", "N1", NOON_MS), ("click", "U1", "N3", NOON_MS)]),
    ),
    "Yoochoose clicks": (
        "yoochoose-clicks.dat",
        "1,2023-11-14T22:13:20.000Z,214,0\n1,2023-11-14T22:13:20.001Z,215,S\n",
        ("yoochoose", [("click", "1", "214", NOON_MS), ("click", "1", "215", NOON_MS + 1)]),
    ),
    "Yoochoose buys": (
        "yoochoose-buys.dat",
        "420,2023-11-14T22:13:20.000Z,214,12462,1\n",
        ("yoochoose", [("purchase", "420", "214", NOON_MS)]),
    ),
    "Amazon 2023": (
        "All_Beauty.jsonl",
        json.dumps(
            {
                "rating": 5.0,
                "title": "ok",
                "text": "fine " * 100,
                "images": [],
                "asin": "X1",
                "parent_asin": "X0",
                "user_id": "R1",
                "timestamp": NOON_MS,
                "verified_purchase": True,
            }
        ),
        ("amazon", [("rating", "R1", "X0", NOON_MS)]),
    ),
    "Amazon 2018": (
        "All_Beauty.json",
        json.dumps({"overall": 5.0, "reviewerID": "R1", "asin": "X1", "unixReviewTime": NOON_S}),
        ("amazon", [("rating", "R1", "X1", NOON_MS)]),
    ),
    "H&M": (
        "transactions_train.csv",
        "t_dat,customer_id,article_id,price,sales_channel_id\n2023-11-14,00a,0663713001,0.05,2\n",
        ("hm", [("purchase", "00a", "0663713001", 1_699_920_000_000)]),
    ),
    "Last.fm": (
        "userid-timestamp-artid-artname-traid-traname.tsv",
        'user_1\t2023-11-14T22:13:20Z\ta1\tThe "Quoted\tt1\tSong\nuser_1\t2023-11-14T22:13:20Z\ta1\tBand\t\tSong\n',
        ("lastfm", [("watch", "user_1", "t1", NOON_MS), ("watch", "user_1", "Band - Song", NOON_MS)]),
    ),
    "names like ours": (
        "log.csv",
        f"EventTime;CustomerID;SKU;Action\n{NOON_S};c1;s1;page-view\n".replace("EventTime", "event_time"),
        ("table", [("click", "c1", "s1", NOON_MS)]),
    ),
}


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def taken(file):
    messages = [event.message for event in file.events(category_of={}) if event.message is not None]
    return [(each.type, each.user_id, each.item_id, each.event_time_ms) for each in messages]


@pytest.mark.parametrize("shape", FORMATS)
def test_each_format_is_recognised_and_read(tmp_path, shape):
    name, content, (format_, events) = FORMATS[shape]
    file = EventFile.open(written(tmp_path, name, content))

    assert file.reader.shape.format == format_
    assert taken(file) == events
    assert not file.tally.refused
    assert bool(file.reader.said) == (format_ != "streamrec")


@pytest.mark.parametrize("pack", [gzip.compress, lambda raw: pa.Codec("zstd").compress(raw).to_pybytes()])
@pytest.mark.parametrize("shape", ["RetailRocket", "OTTO", "MIND"])
def test_a_packed_file_has_the_events_and_the_ids_of_the_plain_one(tmp_path, shape, pack):
    name, content, _ = FORMATS[shape]
    plain = EventFile.open(written(tmp_path, name, content))
    packed = EventFile.open(written(tmp_path, f"{name}.packed", pack(content.encode())))

    assert list(packed.events(category_of={})) == list(plain.events(category_of={}))
    assert packed.rows == plain.rows


def test_what_a_dump_names_is_what_the_event_has(tmp_path):
    name, content, _ = FORMATS["topic dump"]
    (event,) = EventFile.open(written(tmp_path, name, content)).events(category_of={})

    assert event.message == Click(**DUMPED)


def test_several_events_of_a_line_have_an_id_each(tmp_path):
    name, content, _ = FORMATS["OTTO"]
    file = EventFile.open(written(tmp_path, name, content))

    assert [event.message.event_id for event in file.events(category_of={})] == [
        f"{file.digest}:0",
        f"{file.digest}:0:1",
        f"{file.digest}:0:2",
    ]


def test_columns_types_separator_and_header_can_be_said(tmp_path):
    path = written(tmp_path, "log.txt", f"a|2|x9|{NOON_S}\nb|4|x8|{NOON_S}\nb|5|x8|{NOON_S}\n")
    file = EventFile.open(
        path,
        FileOptions(
            columns={"user_id": "1", "event_type": "2", "item_id": "3", "event_time_ms": "4"},
            types={"2": "view", "4": "purchase", "5": "impression"},
            separator="|",
            header=False,
        ),
    )

    assert taken(file) == [("click", "a", "x9", NOON_MS), ("purchase", "b", "x8", NOON_MS)]
    assert (file.rows, file.tally.left_out, file.tally.refused.total()) == (3, {"5": 1}, 0)


@pytest.mark.parametrize(("unit", "times"), [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
@pytest.mark.parametrize("said", [True, False])
def test_the_unit_of_times_is_guessed_and_can_be_said(tmp_path, unit, times, said):
    path = written(tmp_path, "events.csv", f"user_id,item_id,event_type,timestamp\nu,i,view,{int(NOON_S * times)}\n")
    file = EventFile.open(path, FileOptions(time_unit=unit if said else ""))

    assert taken(file) == [("click", "u", "i", NOON_MS)]
    assert bool(file.reader.said) == (not said and unit != "ms")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (FileOptions(format="otto"), "not in the format otto"),
        (FileOptions(columns={"user_id": "nobody"}), "no column nobody; columns: user_id"),
        (FileOptions(columns={"colour": "user_id"}), "unknown field colour; choose from user_id"),
        (FileOptions(header=False), "--columns user_id=COLUMN"),
    ],
)
def test_options_that_contradict_the_file_are_a_clear_error(tmp_path, options, message):
    path = written(tmp_path, "events.csv", f"user_id,item_id,event_type,timestamp\nu,i,view,{NOON_MS}\n")
    with pytest.raises(UsageError, match=message):
        EventFile.open(path, options)
