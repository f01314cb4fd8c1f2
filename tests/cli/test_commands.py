"""Commands against real servers."""

from __future__ import annotations

import json
from uuid import uuid4

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamrec.adapters.redis import RedisTopKStore
from streamrec.chaos.oracle import read_all
from streamrec.cli.app import main
from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.service.list_marks import Facts
from streamrec.service.list_ports import EncodedList

NOON_MS = 1_700_000_000_000


@pytest.fixture
def servers(stack, redis_url, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")  # else headings wrap
    monkeypatch.setenv("STREAMREC_KAFKA", stack.settings.kafka)
    monkeypatch.setenv("STREAMREC_REDIS_URL", redis_url)
    monkeypatch.setenv("STREAMREC_DATA_DIR", str(tmp_path))
    return stack.settings


def run(arguments, capsys, *, code=0):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    captured = capsys.readouterr()
    assert exit_info.value.code == code, captured.err
    return captured.out or captured.err


def a_list(user_id):
    return TopKList(
        state_version=1,
        list_id="l1",
        user_id=user_id,
        items=ListedItems.of(
            [
                ListItem("i1", 0.5, Reason("model", "i0")),
                ListItem("i2", 0.25, Reason("popular")),
            ]
        ),
        model_version="m1",
        arm="personal",
        event_time_ms=NOON_MS,
        produced_at_ms=NOON_MS,
        made_at_ms=NOON_MS,
    )


def test_topk_shows_a_list_and_why(servers, capsys):
    store = RedisTopKStore(servers.require_redis_url(), list_ttl_days=1)
    assert "not even the default one" in run(["topk", "u1"], capsys, code=2)

    store.put_default(a_list(""))
    assert "the default list" in run(["topk", "u1"], capsys)

    store.put_lists([EncodedList("u1", 1, msgspec.json.encode(a_list("u1")))], [])
    shown = run(["topk", "u1"], capsys)
    assert "the model: goes with i0" in shown
    assert "default" not in shown
    assert [item["item_id"] for item in json.loads(run(["topk", "u1", "--json"], capsys))["items"]] == ["i1", "i2"]


def test_replay_publishes_items_first_and_counts_what_it_did(servers, capsys, tmp_path):
    marker = uuid4().hex
    rows = [
        {"user_id": marker, "item_id": n, "event_type": event_type, "timestamp": NOON_MS + n}
        for n, event_type in enumerate(["view", "purchase", "return", "click"])
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "events.parquet")
    pq.write_table(pa.Table.from_pylist([{"item_id": 0, "category_id": 9}]), tmp_path / "items.parquet")
    played = json.loads(run(["replay", str(tmp_path), "--json"], capsys))

    assert played["rows"] == 4
    assert played["items"] == 1
    assert played["published"] == {"clicks": 2, "purchases": 1, "feedback": 1}
    assert played["skipped"] == {}
    sent = [
        json.loads(record.value)
        for _, record in read_all(servers.require_kafka(), ["clicks", "purchases", "feedback"])
        if record.key == marker.encode()
    ]
    assert sorted(event["item_id"] for event in sent) == ["0", "1", "2", "3"]
    assert {event["item_id"]: event.get("category") for event in sent} == {"0": "9", "1": None, "2": None, "3": None}
    assert len({event["event_id"] for event in sent}) == 4


def test_replay_of_a_part_names_events_as_replay_of_all(servers, capsys, tmp_path):
    marker = uuid4().hex
    file = tmp_path / "events.jsonl"
    file.write_text(
        "".join(
            json.dumps({"user_id": marker, "item_id": n, "event_type": "click", "timestamp": NOON_MS + n}) + "\n"
            for n in range(5)
        )
    )
    run(["replay", str(file), "--skip", "2", "--limit", "2", "--rate", "1000"], capsys)
    run(["replay", str(file)], capsys)
    sent = [
        json.loads(record.value)
        for _, record in read_all(servers.require_kafka(), ["clicks"])
        if record.key == marker.encode()
    ]

    assert len(sent) == 7
    assert len({(event["event_id"], event["item_id"]) for event in sent}) == 5


@pytest.mark.usefixtures("servers")
def test_lag_and_topics_print_figures(capsys):
    lag = json.loads(run(["lag", "--json"], capsys))
    topics = json.loads(run(["topics", "--json"], capsys))

    assert lag["lag"] == sum(part["lag"] for part in lag["partitions"])
    assert {part["group"] for part in lag["partitions"]} >= {"streamrec-interests", "streamrec-recall"}
    assert {topic["topic"] for topic in topics} >= {"clicks", "items", "recommendations"}
    assert "behind s" in run(["lag"], capsys)
    assert "clicks.dlq" in run(["topics"], capsys)
    assert json.loads(run(["topics", "create", "--json"], capsys)) == {"created": []}


def test_lists_are_counted_and_marked_to_be_rebuilt(servers, capsys):
    assert "no lists yet" in run(["lists", "status"], capsys, code=2)
    store = RedisTopKStore(servers.require_redis_url(), list_ttl_days=1)
    store.put_lists([EncodedList("u1", 1, msgspec.json.encode(a_list("u1")))], [])
    store.marks.keep(Facts(version="m1", events=1_000, known_items=2, top_k=50))
    assert json.loads(run(["lists", "rebuild", "--json"], capsys)) == {"lists": 1, "marked": 0}, (
        "there is no third item"
    )

    store.marks.keep(Facts(version="m2", events=1_000, known_items=2, top_k=50))
    assert "1 of 1 lists are marked" in run(["lists", "rebuild"], capsys)
    assert json.loads(run(["lists", "status", "--json"], capsys))["census"]["poor"] == 1
    assert "waiting to be rebuilt" in run(["lists", "status"], capsys)
    said = json.loads(run(["status", "--json"], capsys, code=1))
    assert "lists-waiting" in [cause["name"] for cause in said["details"]]
    assert said["lists"]["census"]["poor"] == 1


@pytest.mark.usefixtures("servers")
def test_status_names_the_causes_and_exits_with_1(capsys):
    said = json.loads(run(["status", "--json"], capsys, code=1))

    assert not said["ready"]
    assert "streamrec-recall has no members" in said["causes"]
    assert {group["group"] for group in said["groups"]} >= {"streamrec-interests", "streamrec-recall"}
    assert "not healthy" in run(["status"], capsys, code=1)


@pytest.mark.usefixtures("servers")
def test_lag_is_followed_by_people_only(capsys):
    assert "cannot be combined" in run(["lag", "--watch", "--json"], capsys, code=2)


def test_commands_find_the_stack_that_runs_on_the_data_directory(stack, capsys, monkeypatch):
    for name in ("KAFKA", "REDIS_URL", "POSTGRES_URL"):
        monkeypatch.delenv(f"STREAMREC_{name}", raising=False)
    monkeypatch.setenv("STREAMREC_DATA_DIR", str(stack.settings.data_dir))

    assert json.loads(run(["topics", "--json"], capsys))
