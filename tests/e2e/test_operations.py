"""What an operator does by hand: letting bad records through, and adding partitions."""

from __future__ import annotations

import socket
import tempfile
import time

import psutil
import pytest
from confluent_kafka.admin import AdminClient, NewPartitions
from pipeline import own_servers, stop
from waiting import DEADLINE_S

from streamrec.chaos.oracle import read_all
from streamrec.monitor.look import look_once
from workers import alive as probe
from workers.alive import alive
from workers.readiness import why_paused

EVENTS, USERS = 1_200, 60


@pytest.fixture(scope="module")
def operated(tmp_path_factory):
    with own_servers(tmp_path_factory.mktemp("operated")) as pipeline:
        yield pipeline


def clicks(name):
    now_ms = time.time_ns() // 1_000_000
    for n in range(EVENTS):
        yield {
            "user_id": f"u{n % USERS}",
            "item_id": f"i{n % 7}",
            "event_time_ms": now_ms - n,
            "event_id": f"{name}-{n}",
        }


def listening(process):
    return {each.laddr.ip for each in process.net_connections(kind="inet") if each.status == psutil.CONN_LISTEN}


def test_mostly_bad_records_pause_the_worker_until_they_are_let_through(operated, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(operated.temporary))
    operated.produce("clicks", [b"{broken"] * 2_000)
    (process,) = operated.start("interests")
    operated.wait(lambda: "were refused" in (why_paused("streamrec-interests") or ""), "the pause")
    for variable, value in operated.settings.environment().items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(socket, "gethostbyname", lambda _name: "127.0.0.1")

    assert process.poll() is None
    assert alive(operated.settings, "interests", "127.0.0.1"), "it stays a member of its group"
    assert probe.main(["interests"]) == 0
    assert probe.main(["interests", "--ready"]) == 1
    assert "of the last 1000 records were refused" in capsys.readouterr().err
    paused = [cause.text for cause in look_once(operated.settings).causes if cause.name == "paused"]
    assert "of the last 1000 records were refused" in paused[0], "a command on another terminal says why, too"
    assert len(list(read_all(operated.settings.require_kafka(), ["clicks.dlq"]))) < 2_000
    assert listening(psutil.Process(process.pid)) <= {"127.0.0.1"}, "its metrics are for this machine alone"

    assert stop(process) == 0
    assert why_paused("streamrec-interests") is None
    (process,) = operated.start("interests", dead_letter_limit=1.0)
    operated.wait_until_folded()
    verdict = operated.judge()
    assert verdict.clean, verdict.notes
    stop(process)


def test_adding_partitions_loses_nothing(operated):
    """The procedure of docs/procedures.md: all topics that are split by user grow to the same number."""
    processes = operated.start("interests", "interests", dead_letter_limit=1.0)
    operated.produce("clicks", clicks("before"))
    operated.wait_until_folded()
    admin = AdminClient({"bootstrap.servers": operated.settings.kafka})
    wanted = operated.settings.partitions + 2
    grown = [NewPartitions(topic, wanted) for topic in ("clicks", "purchases", "user-interests")]
    for future in admin.create_partitions(grown).values():
        future.result(DEADLINE_S)
    operated.wait(  # the broker confirms them before it knows them
        lambda: {len(admin.list_topics(each.topic).topics[each.topic].partitions) for each in grown} == {wanted},
        "the partitions",
    )
    operated.connect_producer()  # one that runs on would learn of the partitions in its own time
    operated.produce("clicks", clicks("after"))
    operated.wait_until_folded()

    assert {source.partition for source in operated.ledger().ends if source.topic == "clicks"} >= {
        wanted - 2,
        wanted - 1,
    }
    verdict = operated.judge()
    assert verdict.clean, verdict.notes
    for process in processes:
        stop(process)
