"""Alerts, runbook, dashboard and metrics agree; that each alert fires, promtool shows in `.ci/run`."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from streamrec.adapters.kafka.group_lag import GroupLag, Lag
from streamrec.adapters.kafka.offsets import Partitions
from streamrec.adapters.postgres import RetentionReport
from streamrec.adapters.postgres.report import Arm, Day
from streamrec.metrics import ListMetrics, ServingMetrics, TrainerMetrics, WorkerMetrics
from streamrec.monitor.exposition import Exposition
from streamrec.monitor.groups import GroupWatch
from streamrec.monitor.observation import Observation
from streamrec.monitor.readiness import CHECKS, DEAD_LETTER_LIMIT, MODEL_AGE_LIMIT_S
from streamrec.settings import Settings

ROOT = Path(__file__).parents[1]
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "monitoring" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
NAMES = {rule["alert"] for rule in RULES}
PANELS = json.loads((ROOT / "monitoring/grafana/dashboards/streamrec.json").read_text())["panels"]
METRIC = re.compile(r"\b(?:kafka|streamrec|process)_\w+")


def observed():
    """Return an observation with something of everything."""
    partitions = Partitions({"clicks": 2})
    lag = Lag(1_000_000, partitions, np.zeros(2, int), np.full(2, 9))
    lag.groups['we "quote"'] = GroupLag(np.arange(2), np.array([3, -1]), lag.start, lag.end, np.array([999_000, -1]), 2)
    day = Day("2026-01-01", 2, 2, 2, 1.0, 2, 0.5, None, None, 0.5, None, None)
    arm = Arm("personal", 2, 5, 0, 1, 4, 1, 1, 0, 0.25, 0.0)
    return Observation(
        10.0,
        lag=lag,
        groups=GroupWatch().look(lag, 0.0),
        servers=["Kafka"],
        read_s=time.monotonic(),
        retention={"": RetentionReport([day], [arm])},
    )


def exposed():
    return b"".join(Exposition(observed).text()).decode()


def exported_names():
    """Return the names of all samples that the monitor and the workers can export."""
    workers = CollectorRegistry()
    for metrics in (WorkerMetrics, TrainerMetrics, ServingMetrics, ListMetrics):
        metrics(workers)
    declared = {
        name
        for family in workers.collect()
        for name in (family.name, *(f"{family.name}_{end}" for end in ("total", "bucket", "count", "sum", "info")))
    }
    text = exposed() + generate_latest(workers).decode()
    return declared | set(re.findall(r"^(\w+)[ {]", text, re.MULTILINE))


def test_every_alert_has_an_entry_in_the_runbook_and_a_test_that_fires_it():
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    fired = [test["name"] for test in yaml.safe_load((ROOT / "monitoring" / "alerts_test.yml").read_text())["tests"]]

    assert set(re.findall(r"^## (\w+)$", runbook, re.MULTILINE)) == NAMES
    assert sorted(fired) == sorted(NAMES)
    for entry in re.split(r"^## ", runbook, flags=re.MULTILINE)[1:]:
        assert all(part in entry for part in ("**Means.**", "**Look.**", "**Do.**")), entry


def test_each_cause_fires_one_alert():
    exprs = {rule["alert"]: rule["expr"] for rule in RULES}
    others = re.search(r'cause!~"([^"]+)"', exprs["NotReady"])[1].split("|")
    own = [
        name for expr in exprs.values() for names in re.findall(r'cause=~?"([^"]+)"', expr) for name in names.split("|")
    ]

    assert sorted(others) == sorted(own)
    assert set(own) <= {check.name for check in CHECKS}


@pytest.mark.parametrize(
    "expression",
    [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]],
)
def test_rules_and_panels_ask_for_what_is_exported(expression):
    assert set(METRIC.findall(expression)) <= exported_names()


def test_cards_of_grafana_have_the_limits_of_the_dashboard():
    limits = {
        panel["title"]: panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
        for panel in PANELS
        if panel["type"] == "stat"
    }
    lag_limit_s = Settings().lag_limit_s

    for title, limit in {
        "Lag": lag_limit_s,
        "List freshness": lag_limit_s,
        "Model age": MODEL_AGE_LIMIT_S,
        "Dead letters": DEAD_LETTER_LIMIT,
    }.items():
        assert limits[title] == limit, title


def test_partitions_are_told_under_the_names_of_other_exporters():
    lines = exposed().splitlines()
    labels = 'consumergroup="we \\"quote\\"",topic="clicks",partition="0"'

    assert f"kafka_consumergroup_lag{{{labels}}} 6" in lines
    assert f"kafka_consumergroup_current_offset{{{labels}}} 3" in lines
    assert f"kafka_consumergroup_group_lag_seconds{{{labels}}} 1.0" in lines
    assert 'kafka_topic_partition_current_offset{topic="clicks",partition="1"} 9' in lines
    assert 'kafka_topic_partition_oldest_offset{topic="clicks",partition="1"} 0' in lines
    assert 'kafka_consumergroup_members{consumergroup="we \\"quote\\""} 2.0' in lines
    assert 'streamrec_arm_followed_clicks{arm="personal"} 1.0' in lines
    assert 'streamrec_retention_share{arm="all",day="1"} 0.5' in lines
