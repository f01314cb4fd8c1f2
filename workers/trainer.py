"""The `trainer` worker: `user-interests` become training steps, checkpoints and `model-updates`.

The agent admits events and triggers a step when enough of them wait, or the oldest has waited long enough. Steps run in
a separate thread: neither the event loop nor the consumer waits for them.
"""

from __future__ import annotations

import threading
import time
from functools import partial

import faust
import structlog

from streamrec import logs
from streamrec.adapters.directory_identity import DirectoryIdentity
from streamrec.adapters.kafka import Batching, BatchSource, BroadcastReader, KafkaPublisher
from streamrec.contracts.topics import ITEMS, MODEL_CONTROL, USER_INTERESTS
from streamrec.errors import TransientError
from streamrec.metrics import TrainerMetrics
from streamrec.model.training.claim import claimed
from streamrec.model.training.trainer import Trainer
from streamrec.service.batch import Batch, Positions
from streamrec.service.largest_records import needs_of_trainer
from streamrec.service.train_on_interests import TrainOnInterests
from streamrec.settings import Settings
from workers.checks import checked
from workers.identity import store_check
from workers.runtime import (
    GROUP_PREFIX,
    POLL_S,
    Background,
    Store,
    count_refused,
    feed,
    new_app,
    persist_until,
    poll,
    run,
    run_in_background,
)

NAME = "trainer"

PATIENCE_MS = 200
"""Events that are trained together may as well arrive together."""

_log = structlog.get_logger(__name__)


def build(settings: Settings) -> faust.App:
    """Return the worker's app."""
    kafka = settings.require_kafka()
    trainer = Trainer.open(settings)
    publisher = KafkaPublisher(kafka)
    training = TrainOnInterests(trainer, publisher, checkpoint_interval_s=settings.checkpoint_interval_s)
    metrics = TrainerMetrics()
    admitted = threading.Event()

    def handle(batch: Batch) -> Positions:
        positions = training.handle(batch)
        admitted.set()
        return positions

    def report(seconds: float) -> None:
        """Log one line per step, and count it."""
        progress = trainer.progress
        metrics.record_training(progress, waiting=training.waiting)
        _log.info(
            "step",
            duration_ms=round(seconds * 1_000, 1),
            waiting=training.waiting,
            micro_batches=progress.micro_batches,
            events=progress.events,
            loss=round(progress.loss, 4),
            version=progress.version,
        )

    def train(worker: Background) -> None:
        """Run a step whenever a micro-batch is full or old enough, or a command arrives, while the worker runs."""
        while not worker.stopping.is_set():
            if _gather(training, admitted, settings, worker):
                begun_s = time.monotonic()
                persist_until(worker.stopping, training.step)
                report(time.monotonic() - begun_s)
            else:  # a failed checkpoint is reported even if nothing is trained
                metrics.record_training(trainer.progress, waiting=training.waiting)
        _save_at_the_end(training)

    def follow(worker: Background) -> None:
        """Read the catalogue and commands while the worker runs."""
        topics = [ITEMS, MODEL_CONTROL]
        opened = partial(BroadcastReader, kafka=kafka, topics=topics, on_recreated=training.begin_anew)
        reader = persist_until(worker.stopping, opened)
        try:
            while not worker.stopping.is_set():
                batch = poll(reader, worker)
                count_refused(NAME, reader.refused, training.refused)
                if batch is not None:
                    training.learn(batch)
                    if training.must_step:
                        admitted.set()
        finally:
            reader.close()

    identity = DirectoryIdentity(settings.checkpoint_dir)
    app = new_app(NAME)
    run_in_background(app, follow)
    run_in_background(app, train)
    feed(
        app,
        open_source=partial(
            BatchSource,
            kafka=kafka,
            group=GROUP_PREFIX + NAME,
            topic_ids=training,
            topics=[USER_INTERESTS],
            batching=Batching(patience_ms=min(PATIENCE_MS, int(settings.micro_batch_age_s * 1_000))),
        ),
        store=Store(training.positions, store_check(settings, identity), checked(publisher, needs_of_trainer())),
        handle=handle,
        tally=lambda: training.tally,
    )
    return app


def _gather(training: TrainOnInterests, admitted: threading.Event, settings: Settings, worker: Background) -> bool:
    """Wait for a full or old enough micro-batch or other work; return whether there is any."""
    if not training.waiting and not training.must_step and not admitted.wait(POLL_S):
        return False
    oldest_s = time.monotonic()
    while training.waiting < settings.micro_batch_events and not training.must_step and not worker.stopping.is_set():
        left_s = oldest_s + settings.micro_batch_age_s - time.monotonic()
        admitted.clear()
        if left_s <= 0 or not admitted.wait(left_s):
            break
    return training.waiting > 0 or training.must_step


def _save_at_the_end(training: TrainOnInterests) -> None:
    try:
        training.checkpoint()
    except TransientError as error:
        _log.error("not saved on shutdown", because=str(error), instead="the next start reads it again")


def main(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; stand by while another trainer uses the same checkpoints."""
    logs.configure(settings.log_level, worker=NAME)  # standing by is logged
    with claimed(settings.checkpoint_dir):
        run(build, settings, worker=NAME, gives_way=True)
