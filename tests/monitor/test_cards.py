"""The cards on top: each figure against the limit of the one rule, by colour and text."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from streamrec.adapters.kafka.group_lag import GroupLag, Lag
from streamrec.adapters.kafka.lag import GROUPS
from streamrec.adapters.kafka.offsets import Partitions
from streamrec.metrics import Endpoint
from streamrec.monitor import cards as module
from streamrec.monitor.cards import cards
from streamrec.monitor.groups import GroupWatch
from streamrec.monitor.observation import Observation
from streamrec.monitor.page import Page
from streamrec.monitor.readiness import CHECKS, DEAD_LETTER_LIMIT, MODEL_AGE_LIMIT_S, WARNINGS
from streamrec.monitor.scrape import Scraped

NOW_MS = 1_760_000_000_000
ALERTS = Path(__file__).parents[2] / "monitoring" / "alerts.yml"
NEWEST = "streamrec_newest_effect_timestamp_seconds"


def observed(*, behind_s=0.0, model_age_s=5.0, freshness_s=0.05, dead_letters=0):
    """Return what is seen of a pipeline that handled 1,000 events of late."""
    partitions = Partitions({topic: 1 for topics in GROUPS.values() for topic in topics})
    size = len(partitions)
    lag = Lag(NOW_MS, partitions, np.zeros(size, int), np.full(size, 10))
    for group, topics in GROUPS.items():
        index = partitions.of(topics)
        committed = np.full(len(index), 9 if behind_s else 10)
        at_ms = np.full(len(index), NOW_MS - int(1_000 * behind_s))
        lag.groups[group] = GroupLag(index, committed, lag.start[index], lag.end[index], at_ms, 1)
    gauges = {
        (NEWEST, (("stage", stage),)): at_s for stage, at_s in (("interests", 900.0), ("model", 900.0 - model_age_s))
    }
    seen = Observation(
        10.0,
        lag=lag,
        groups=GroupWatch().look(lag, 0.0),
        workers=[Scraped(Endpoint("recall", "h", 1), gauges=gauges)],
        servers=["Kafka"],
        read_s=time.monotonic(),
    )
    for at_s, count in ((0.0, 0.0), (20.0, 1.0)):
        seen.seen_s = at_s
        outcomes = {"applied": 1_000 - dead_letters, "dead-lettered": dead_letters}
        counted = {
            ("streamrec_outcomes_total", (("outcome", outcome), ("worker", "interests"))): count * number
            for outcome, number in outcomes.items()
        }
        for bound in (freshness_s, float("inf")):
            counted["streamrec_freshness_seconds_bucket", (("le", str(bound)), ("stage", "recall"))] = 1_000 * count
        seen.totals.take(at_s, {"all": counted})
        seen.record()
    return seen


def states(seen):
    return {card.name: card.word for card in cards(seen, seen.causes, seen.warnings)}


def test_a_healthy_pipeline_is_ok_everywhere():
    seen = observed()
    html = Page().sections(seen, draw=True)["status"]

    assert set(states(seen).values()) == {"OK"}
    assert (seen.causes, seen.warnings) == ([], [])
    assert "Healthy" in html
    assert html.count("limit 10 s") == 2
    assert "limit 10 min" in html
    assert "limit 1 %" in html


@pytest.mark.parametrize(
    ("change", "card", "word", "text"),
    [
        ({"behind_s": 12.0}, "Lag", "Problem", "is 12 s behind, more than 10 s"),
        ({"freshness_s": 30.0}, "List freshness", "Warning", "1 % of lists are published more than 30 s after"),
        ({"model_age_s": 700.0}, "Model age", "Warning", "the serving model lacks the last 700 s of events"),
        ({"dead_letters": 20}, "Dead letters", "Warning", "2.0 % of the latest events are dead letters"),
    ],
)
def test_a_figure_above_its_limit_turns_its_card_alone_and_names_the_next_step(change, card, word, text):
    seen = observed(**change)
    told = seen.causes or seen.warnings
    html = Page().sections(seen, draw=True)["status"]

    assert {name for name, state in states(seen).items() if state != "OK"} == {card}
    assert states(seen)[card] == word
    assert text in html
    assert told[0].next_step in html
    assert bool(seen.causes) == ("Not healthy" in html) == (word == "Problem")


@pytest.mark.parametrize(
    "change",
    [{"behind_s": 9.9}, {"freshness_s": 9.9}, {"model_age_s": 599.0}, {"dead_letters": 10}],
    ids=lambda change: next(iter(change)),
)
def test_a_figure_below_its_limit_turns_nothing(change):
    assert set(states(observed(**change)).values()) == {"OK"}


def test_what_is_not_known_is_neither_good_nor_bad():
    seen = Observation(10.0)

    assert set(states(seen).values()) == {"Problem", "No data"}  # the groups were not read: that is a cause
    assert "unknown" in Page().sections(seen, draw=True)["status"]


def test_warnings_leave_the_pipeline_ready():
    seen = observed(dead_letters=20)
    seen.server_warnings = {"Redis": ["it keeps no append-only file"]}

    assert seen.verdict["ready"]
    assert [(warning.name, warning.subject) for warning in seen.warnings] == [
        ("dead-letters", "interests"),
        ("server-setting", "Redis"),
    ]


def test_cards_name_only_what_the_rule_knows():
    known = {check.name for check in (*CHECKS, *WARNINGS)}

    assert known >= module.LAG | module.FRESHNESS | module.MODEL | module.DEAD_LETTERS
    assert len(known) == len(CHECKS) + len(WARNINGS)


@pytest.mark.parametrize(
    ("alert", "limit"), [("ModelNotUpdated", MODEL_AGE_LIMIT_S), ("DeadLetters", DEAD_LETTER_LIMIT)]
)
def test_limits_of_warnings_are_those_of_the_alerts(alert, limit):
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    (expression,) = [rule["expr"] for rule in rules if rule["alert"] == alert]

    assert float(re.search(r"> ([\d.]+)\s*$", expression)[1]) == limit
