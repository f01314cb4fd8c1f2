"""One rule says why the pipeline does not keep up: to commands, probes, the page and Prometheus."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from streamrec.adapters.kafka.group_lag import GroupLag, Lag
from streamrec.adapters.kafka.lag import GROUPS
from streamrec.adapters.kafka.offsets import Partitions
from streamrec.metrics import MAX_REASON, PAUSED, WAITING, Endpoint, Standstill
from streamrec.monitor.exposition import Exposition
from streamrec.monitor.groups import GroupWatch
from streamrec.monitor.observation import Observation
from streamrec.monitor.page import Page
from streamrec.monitor.readiness import CHECKS, causes
from streamrec.monitor.scrape import Scraped, parse

NOW_MS = 1_760_000_000_000
LIMIT_S = 10.0
UNSAVED = "streamrec_checkpoint_failing"
ALERTS = Path(__file__).parents[2] / "monitoring" / "alerts.yml"


def observed(*, workers=(), high=10, held_s=None, start=0, unfit=None):
    """Return what is seen of a pipeline that has handled everything up to the stable end."""
    topics = ["clicks", "feedback", "impressions", "purchases", "recommendations", "user-interests"]
    partitions = Partitions(dict.fromkeys(topics, 1))
    size = len(partitions)
    lag = Lag(NOW_MS, partitions, np.full(size, start), np.full(size, 10))
    lag.high = np.array([high] + [10] * (size - 1))
    lag.held_since_ms = np.full(size, -1 if held_s is None else NOW_MS - int(held_s * 1_000))
    for group in GROUPS:
        index = partitions.of(GROUPS[group])
        none = np.full(len(index), -1)
        lag.groups[group] = GroupLag(index, np.full(len(index), 10), lag.start[index], lag.end[index], none, 1)
    groups = GroupWatch().look(lag, 0.0)
    return Observation(
        LIMIT_S, lag=lag, groups=groups, read_s=time.monotonic(), workers=list(workers), unfit=unfit or {}
    )


def worker(name, kind, because, *, for_s=0.0):
    """Return what a worker says of itself that has stood still for a time."""
    registry = CollectorRegistry()
    with Standstill(registry).of(kind) as say:
        say(because)
        text = generate_latest(registry).decode()
    return parse(Endpoint(name, "127.0.0.1", 1), re.sub(r"(?m)^(streamrec_\w+\{.*\}) \S+$", rf"\1 {for_s}", text))


def metrics_of(now):
    """Return all samples that the monitor exports, as Prometheus reads them."""
    text = b"".join(Exposition(lambda: now).text()).decode()
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


@pytest.mark.parametrize(
    ("now", "name", "subject", "text"),
    [
        (
            observed(workers=[worker("interests", PAUSED, "600 of the last 1000 records were refused", for_s=7)]),
            "paused",
            "interests",
            "interests has paused itself for 7 s: 600 of the last 1000 records were refused",
        ),
        (
            observed(workers=[worker("recall", WAITING, "Redis: READONLY", for_s=LIMIT_S + 2)]),
            "retrying",
            "recall",
            "recall has been retrying for 12 s: Redis: READONLY",
        ),
        (
            observed(workers=[Scraped(Endpoint("trainer", "127.0.0.1", 1), gauges={(UNSAVED, ()): 1.0})]),
            "unsaved",
            "trainer",
            "trainer cannot write its checkpoints: a restart would resume from the last one",
        ),
        (
            observed(high=17, held_s=LIMIT_S + 5),
            "open-transaction",
            "clicks",
            "an open transaction has held back 7 records in 1 partitions of clicks for 15 s",
        ),
        (
            observed(unfit={"Redis": ["it evicts keys"]}),
            "unfit-server",
            "Redis",
            "Redis: it evicts keys",
        ),
    ],
)
def test_a_cause_is_the_same_everywhere_and_comes_with_a_next_step(now, name, subject, text):
    now.read_s = time.monotonic()  # the parameters are as old as the session
    (cause,) = causes(now)

    assert (cause.name, cause.subject, cause.text) == (name, subject, text)
    assert now.verdict["causes"] == [text]
    assert text in Page().index(now)
    assert cause.next_step in Page().index(now)
    samples = metrics_of(now)
    assert samples["streamrec_ready"] == "0.0"
    assert samples[f'streamrec_cause{{cause="{name}",subject="{subject}"}}'] == "1.0"


@pytest.mark.parametrize(
    "now",
    [
        observed(),
        observed(workers=[worker("recall", WAITING, "Redis: away for a moment", for_s=LIMIT_S - 1)]),
        observed(high=17, held_s=LIMIT_S - 1),
        observed(high=17),
        observed(workers=[Scraped(Endpoint("trainer", "127.0.0.1", 1), gauges={(UNSAVED, ()): 0.0})]),
    ],
    ids=["nothing", "a-short-retry", "a-short-transaction", "not-read-yet", "saved"],
)
def test_what_passes_by_itself_is_no_cause(now):
    now.read_s = time.monotonic()
    assert causes(now) == []
    assert metrics_of(now)["streamrec_ready"] == "1.0"


def test_what_an_open_transaction_holds_back_is_shown_before_it_is_a_cause():
    now = observed(high=17, held_s=LIMIT_S - 1)

    assert "holds back 7 records of clicks, the oldest of them 9.0 s old" in Page().index(now)
    assert metrics_of(now)['streamrec_held_back_records{topic="clicks"}'] == "7.0"


def test_records_deleted_before_they_were_read_are_a_cause():
    assert {(cause.name, cause.subject) for cause in causes(observed(start=12))} == {
        ("lost", group) for group in GROUPS
    }


def test_each_kind_of_cause_is_a_series_and_decides_one_alert():
    kinds = {check.name for check in CHECKS}
    samples = metrics_of(observed())
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    selectors = [re.findall(r'streamrec_cause\{cause(=~|!~|=)"([^"]+)"', rule["expr"]) for rule in rules]

    def fires(kind, operator, pattern):
        return bool(re.fullmatch(pattern, kind)) != (operator == "!~")

    for kind in kinds:
        assert samples[f'streamrec_cause{{cause="{kind}",subject=""}}'] == "0.0"
        alerts = [found for found in selectors if any(fires(kind, *selector) for selector in found)]
        assert len(alerts) == 1, kind


def test_what_a_worker_says_cannot_move_a_terminal_and_is_bounded():
    (cause,) = causes(observed(workers=[worker("interests", PAUSED, "\x1b[2J\n" + "x" * 10_000)]))

    assert cause.text.isprintable()
    assert len(cause.text) < MAX_REASON + 100


def test_each_thread_reports_its_own_stall_while_it_lasts():
    registry = CollectorRegistry()
    standstill = Standstill(registry)

    def told():
        return set(parse(Endpoint("recall", "", 0), generate_latest(registry).decode()).reasons(WAITING))

    with standstill.of(WAITING) as one, standstill.of(WAITING) as other:
        assert told() == set()
        one("Redis is unavailable")
        other("Redis is unavailable")
        one("Redis loads its data")
        assert told() == {"Redis is unavailable", "Redis loads its data"}
        one("Redis is unavailable")
        assert told() == {"Redis is unavailable"}
    assert told() == set()
