"""The `interests` worker: events become interest states in Redis and `user-interests` records."""

from __future__ import annotations

from functools import partial

import faust

from streamrec.adapters.kafka import Batching, BatchSource, KafkaPublisher
from streamrec.adapters.redis import RedisInterestStore
from streamrec.adapters.redis.identity import RedisIdentity
from streamrec.contracts.topics import EVENT_TOPICS
from streamrec.service.fold_interests import FoldInterests
from streamrec.service.largest_records import needs_of_interests
from streamrec.settings import Settings
from workers.checks import checked
from workers.identity import store_check
from workers.runtime import GROUP_PREFIX, Store, feed, new_app, run

NAME = "interests"

MAX_BATCH_RECORDS = 3_000
"""A backlog is folded faster in larger batches: a user's events share a state and a record."""

LINGER_MS = 5
"""Records are sent while later ones of the batch are made, in few requests."""


def build(settings: Settings) -> faust.App:
    """Return the worker's app."""
    kafka = settings.require_kafka()
    store = RedisInterestStore(
        settings.require_redis_url(), state_ttl_days=settings.state_ttl_days, installation=settings.installation
    )
    publisher = KafkaPublisher(kafka, linger_ms=LINGER_MS)
    needs = needs_of_interests(settings.sequence_length, hide_seen=settings.hide_seen)
    fold = FoldInterests(
        store,
        publisher,
        settings.fold_rules,
        dead_letter_limit=settings.dead_letter_limit,
    )
    identity = RedisIdentity(settings.require_redis_url(), installation=settings.installation)
    app = new_app(NAME)
    feed(
        app,
        open_source=partial(
            BatchSource,
            kafka=kafka,
            group=GROUP_PREFIX + NAME,
            topics=EVENT_TOPICS,
            topic_ids=store.topics,
            batching=Batching(max_records=MAX_BATCH_RECORDS),
        ),
        store=Store(store.positions, store_check(settings, identity), checked(publisher, needs, store.check)),
        handle=fold.handle,
        tally=lambda: fold.tally,
    )
    return app


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    run(build, settings, worker=NAME)
