"""The page is written whatever is known, and nothing that others wrote can become markup."""

from __future__ import annotations

import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from streamrec.adapters.kafka.dead_letters import DeadLetter
from streamrec.adapters.kafka.group_lag import GroupLag, Lag
from streamrec.adapters.kafka.lag import GROUPS
from streamrec.adapters.kafka.offsets import Partitions
from streamrec.adapters.postgres import RetentionReport
from streamrec.adapters.postgres.report import Arm, Day
from streamrec.contracts.derived import TopKList
from streamrec.contracts.listed_items import ListedItems, ListItem, Reason
from streamrec.contracts.model_version import ModelVersion, ModelVersions
from streamrec.domain.interest import InterestState, SequenceEvent
from streamrec.metrics import Endpoint, ServingMetrics, TrainerMetrics, WorkerMetrics
from streamrec.monitor.charts import thin
from streamrec.monitor.groups import GroupWatch
from streamrec.monitor.observation import Observation
from streamrec.monitor.page import SECTIONS, SHOWN_PARTITIONS, Page, rows
from streamrec.monitor.scrape import parse
from streamrec.service.batch import Record, TopicPartition

MARKUP = "<script>alert(1)</script>"
NOW_S = 1_760_000_000.0


def worker(name, *metrics):
    """Return what a worker says that has just started."""
    registry = CollectorRegistry()
    for kind in metrics:
        kind(registry)
    return parse(Endpoint(name, "127.0.0.1", 1), generate_latest(registry).decode())


def full():
    partitions = Partitions({"clicks": 150, "purchases": 150})
    lag = Lag(int(NOW_S * 1_000), partitions, np.zeros(300, int), np.full(300, 9))
    for group in (*GROUPS, MARKUP):
        lag.groups[group] = GroupLag(
            np.arange(300), np.full(300, 3), lag.start, lag.end, np.full(300, lag.at_ms - 60_000), 1
        )
    version = ModelVersion(
        name="v1", made_at_ms=0, events=5, status="refused", loss=None, checkpoint=0, went_on_from="", because=MARKUP
    )
    day = Day("2026-01-01", 2, 2, 2, 1.0, 2, 1.0, 0.5, None, 1.0, 0.0, None)
    letter = Record(
        3, 0, None, f"{MARKUP}\x1b[2J".encode(), {"dlq.reason": b"bad-json", "dlq.message": MARKUP.encode()}
    )
    seen = Observation(
        10.0,
        at_s=NOW_S,
        read_s=time.monotonic(),
        lag=lag,
        groups=GroupWatch().look(lag, 0.0),
        faults={"Redis": MARKUP},
        servers=["Kafka", "Redis"],
        workers=[worker("trainer", WorkerMetrics, TrainerMetrics), worker("recall", WorkerMetrics, ServingMetrics)],
        letters=[DeadLetter(TopicPartition("clicks.dlq", 0), letter)],
        refused={"clicks": 1},
        retention={"": RetentionReport([day], [Arm("personal", 2, 5, 0, 1, 4, 1, 1, 0, 0.25, None)])},
        versions=ModelVersions(versions=[version], refused=1, rolled_back=0, drifts=0),
    )
    seen.record()
    return seen


@pytest.mark.parametrize("seen", [Observation(10.0), full()], ids=["nothing-known", "everything-known"])
def test_every_section_is_written_and_holds_nobodys_markup(seen):
    page = Page()
    sections = page.sections(seen, draw=True)

    assert tuple(sections) == SECTIONS
    assert MARKUP not in page.index(seen)
    assert "\x1b" not in sections["letters"]


def test_what_is_known_is_on_the_page():
    html = Page().index(full())

    for words in ("Not healthy", "Redis does not answer", "60 s behind, more than 10 s", "bad-json", "2026-01-01"):
        assert words in html
    assert "&lt;script&gt;" in html
    assert "<svg" in html


def test_partitions_are_shown_the_furthest_behind_first_and_not_all():
    seen = full()
    seen.lag.groups["streamrec-interests"].committed[7] = 0
    shown = rows(seen)

    assert len(shown) == SHOWN_PARTITIONS
    assert (shown[0].group, shown[0].topic, shown[0].partition, shown[0].lag) == ("streamrec-interests", "clicks", 7, 9)


def test_a_user_is_told_with_the_reason_of_each_item():
    now_ms = int(time.time() * 1_000)
    state = InterestState(
        sequence=[
            SequenceEvent(now_ms, 0, 0, 1, MARKUP, "books"),
            SequenceEvent(now_ms, 1, 0, 2, "i2", ""),
            SequenceEvent(now_ms, 10, 0, 3, "i3", "socks"),
        ]
    )
    topk = TopKList(
        state_version=1,
        list_id="l",
        user_id="u1",
        items=ListedItems.of([ListItem("i9", -1.5, Reason("neighbour", "i2"))]),
        model_version="v7",
        arm="personal",
        event_time_ms=now_ms,
        produced_at_ms=now_ms,
        made_at_ms=now_ms,
    )
    html = Page().user("u1", state, topk)

    assert MARKUP not in html
    assert "on books." in html, "and on nothing that the user dislikes"
    for words in ("3 events are known", "on books", "purchase", "dislike", "neighbour, because of i2", "model v7"):
        assert words in html
    assert "Nothing is known of this user." in Page().user("u2", InterestState(), None)


def test_rates_and_charts_are_the_same_whatever_the_wall_clock_does():
    def drawn(at_s):
        now = Observation(10.0)
        for look, wall_s in enumerate(at_s):
            now.at_s, now.seen_s = wall_s, 1_000.0 + 1.5 * look
            key = ("streamrec_outcomes_total", (("outcome", "applied"), ("worker", "interests")))
            now.totals.take(now.seen_s, {"interests": {key: 30.0 * look}})
            now.record()
        rates = now.history.of("rate applied")
        return rates[-1][1], thin(rates, now.seen_s)

    steady = drawn([NOW_S + 1.5 * look for look in range(12)])
    jumping = drawn([NOW_S + 1.5 * look - (3_600.0 if look > 5 else 0.0) for look in range(12)])
    assert steady[0] == 20.0
    assert jumping == steady


def test_what_was_restarted_is_on_the_page():
    assert "Restarts after a crash: valkey 2" in Page().index(Observation(10.0, restarts={"valkey": 2}))
