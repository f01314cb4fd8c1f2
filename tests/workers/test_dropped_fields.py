"""Producers are told which optional fields their records lose: by name in a metric, and in the log, not too often."""

from __future__ import annotations

from collections import Counter

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamrec.metrics import MAX_FIELD_NAMES, WorkerMetrics
from streamrec.service.tally import Tally
from workers.dropped_fields import INTERVAL_S, MAX_NAMES, MAX_TOLD, DroppedFields


def test_the_log_names_dropped_fields_at_once_and_then_once_a_minute():
    now_s = 5.0
    fields = DroppedFields(lambda: now_s)
    with capture_logs() as lines:
        fields.tell({})
        fields.tell({("clicks", "context.page"): 2, ("purchases", "currency"): 1})
        for _ in range(10):
            fields.tell({("clicks", "position"): 1})
        now_s += INTERVAL_S
        fields.tell({})
        fields.tell({})

    assert [(line["count"], line["fields"]) for line in lines] == [
        (3, {"clicks.context.page": 2, "purchases.currency": 1}),
        (10, {"clicks.position": 10}),
    ]


def test_names_that_producers_choose_are_bounded_in_the_log():
    now_s = 5.0
    fields = DroppedFields(lambda: now_s)
    with capture_logs() as lines:
        fields.tell({("clicks", "position"): 1})
        fields.tell({("clicks", f"context.{number}"): 1 for number in range(2 * MAX_NAMES)})
        now_s += INTERVAL_S
        fields.tell({})

    assert lines[1]["count"] == 2 * MAX_NAMES
    assert len(lines[1]["fields"]) == MAX_TOLD
    assert lines[1]["fields"]["clicks.context"] == MAX_NAMES


def test_names_that_producers_choose_are_bounded_as_labels():
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    for number in range(2 * MAX_FIELD_NAMES):
        metrics.record_outcomes("interests", Tally(dropped=Counter({("clicks", f"context.{number}"): 1})))
    metrics.record_outcomes("interests", Tally(dropped=Counter({("clicks", "context.0"): 1})))

    def value(field):
        labels = {"worker": "interests", "topic": "clicks", "field": field}
        return registry.get_sample_value("streamrec_dropped_fields_total", labels)

    assert (value("context.0"), value("context"), value("context.199")) == (2, MAX_FIELD_NAMES, None)
