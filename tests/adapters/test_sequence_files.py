from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamrec.adapters.sequence_files import read_sessions, read_users
from streamrec.errors import StreamrecError, UsageError


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_events_come_in_the_order_of_time_and_ties_as_they_stand(tmp_path):
    file = write(
        tmp_path / "events.parquet",
        user_id=["u", "v", "u", "u"],
        item_id=["c", "d", "a", "b"],
        timestamp=[30, 5, 10, 10],
    )
    read = read_users(tmp_path)

    assert read.path == file
    assert [read.item_ids[item] for item in read.items] == ["d", "a", "b", "c"]
    assert read.groups.tolist() == [1, 0, 0, 0]
    assert read.times_ms.tolist() == [5, 10, 10, 30]


def test_only_what_replay_takes_for_an_event_is_one(tmp_path):
    kinds = pa.array(["view", "return", "purchase"]).dictionary_encode()
    file = write(tmp_path / "a.parquet", user_id=[1, 1, 1], item_id=[7, 8, 9], timestamp=[1, 2, 3], event_type=kinds)
    read = read_users(file)

    assert [read.item_ids[item] for item in read.items] == ["7", "9"]


def test_a_place_in_the_sequence_goes_before_times_that_are_not_all_known(tmp_path):
    write(tmp_path / "sequences.parquet", user_id=[1, 1, 2], pos=[1, 0, 0], item_id=[5, 6, 5], timestamp=[10, None, 3])
    read = read_users(tmp_path)

    assert [read.item_ids[item] for item in read.items] == ["6", "5", "5"]
    assert read.times_ms is None


def test_lines_are_users_oldest_item_first(tmp_path):
    (tmp_path / "a.txt").write_text("1 x y x\n2 y\n\n3 z\n")
    read = read_users(tmp_path / "a.txt")

    assert read.groups.tolist() == [0, 0, 0, 1, 3]
    assert [read.item_ids[item] for item in read.items] == ["x", "y", "x", "y", "z"]


def test_sessions_come_slice_by_slice_as_they_stand(tmp_path):
    write(tmp_path / "sessions.parquet", session_id=[4, 4, 4], item_id=[1, 2, 3], period=[1, 0, 1])
    read = read_sessions(tmp_path)

    assert read.periods.tolist() == [0, 1, 1]
    assert [read.item_ids[item] for item in read.items] == ["2", "1", "3"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": [1], "item_id": [1], "timestamp": pa.array([None], pa.int64())}, "timestamp has empty values"),
        ({"user_id": [1], "item_id": pa.array([None], pa.int64()), "timestamp": [1]}, "item_id has empty values"),
        ({"user_id": [1], "item_id": [1]}, "no column timestamp"),
    ],
)
def test_what_cannot_be_read_is_said(columns, message, tmp_path):
    file = write(tmp_path / "a.parquet", **columns)

    with pytest.raises(UsageError, match=message):
        read_users(file)


NOON_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    "times",
    [
        [NOON_MS // 1_000],
        [NOON_MS],
        [NOON_MS * 1_000],
        pa.array([NOON_MS], pa.timestamp("ms")).cast(pa.timestamp("ns")),
        pa.array([NOON_MS], pa.timestamp("ms", "Europe/Berlin")),
    ],
)
def test_times_are_milliseconds_whatever_their_unit_in_the_file(tmp_path, times):
    file = write(tmp_path / "a.parquet", user_id=["u"], item_id=["a"], event_type=["Page-View"], timestamp=times)

    assert read_users(file).times_ms.tolist() == [NOON_MS]


def test_files_of_other_formats_are_sequences_of_what_the_contract_takes(tmp_path):
    file = tmp_path / "ratings.dat"
    file.write_text("".join(f"1::{item}::5::{NOON_MS // 1_000 - item}\n" for item in range(3)) + "::9::5::1700000000\n")
    read = read_users(file)

    assert [read.item_ids[item] for item in read.items] == ["2", "1", "0"]
    assert read.groups.tolist() == [0, 0, 0]
    assert read.times_ms[-1] == NOON_MS


def test_a_file_of_which_the_contract_takes_nothing_is_refused(tmp_path):
    file = tmp_path / "ratings.dat"
    file.write_text("1::2::5::17\n" * 5)
    with pytest.raises(StreamrecError, match="0 events accepted from 5 rows"):
        read_users(file)
