"""The `retention` worker: events, lists and impressions become retention, attribution and arms in PostgreSQL.

It also writes the dead letters of `impressions` and `items`.
"""

from __future__ import annotations

from functools import partial

import faust

from streamrec.adapters.kafka import Batching, BatchSource, KafkaPublisher
from streamrec.adapters.postgres import PostgresRetentionStore
from streamrec.adapters.postgres.identity import PostgresIdentity
from streamrec.contracts.topics import EVENT_TOPICS, IMPRESSIONS, ITEMS, RECOMMENDATIONS
from streamrec.domain.arms import assign_arm
from streamrec.service.largest_records import needs_of_retention
from streamrec.service.record_retention import RecordRetention
from streamrec.settings import Settings
from workers.checks import checked
from workers.identity import store_check
from workers.runtime import GROUP_PREFIX, Store, feed, new_app, run

NAME = "retention"

PATIENCE_MS = 500
"""Maximum delay of reports; a transaction for many events costs little more than one for a single event."""


def build(settings: Settings) -> faust.App:
    """Return the worker's app."""
    store = PostgresRetentionStore(
        settings.require_postgres_url(), installation=settings.installation, time_zone=settings.time_zone
    )
    kafka = settings.require_kafka()
    publisher = KafkaPublisher(kafka)
    record = RecordRetention(
        store,
        publisher,
        arm_of=partial(assign_arm, settings.experiment, control_share=settings.control_share),
        follow_window_minutes=settings.follow_window_minutes,
        zone=settings.zone,
    )
    identity = PostgresIdentity(settings.require_postgres_url(), installation=settings.installation)
    app = new_app(NAME)
    feed(
        app,
        open_source=partial(
            BatchSource,
            kafka=kafka,
            group=GROUP_PREFIX + NAME,
            topics=[*EVENT_TOPICS, RECOMMENDATIONS, IMPRESSIONS, ITEMS],
            topic_ids=store,
            batching=Batching(patience_ms=PATIENCE_MS),
        ),
        store=Store(store.positions, store_check(settings, identity), checked(publisher, needs_of_retention())),
        handle=record.handle,
        tally=lambda: record.tally,
    )
    return app


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    run(build, settings, worker=NAME, gives_way=True)
