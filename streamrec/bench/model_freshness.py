"""Model freshness under load: from the production of an event to the first list made by weights that learned it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress

import msgspec
import numpy as np
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.adapters.kafka.client import to_record
from streamrec.adapters.kafka.lag import end_offsets, open_observer, partitions_of
from streamrec.bench.load import Load, Sent
from streamrec.contracts.decode import decode_own
from streamrec.contracts.topics import MODEL_UPDATES, RECOMMENDATIONS
from streamrec.errors import BadRecordError, StreamrecError
from streamrec.kafka_access import KafkaAccess

LEARNED_S = 300.0
"""Timeout for weights after the last event: a slow machine learns long after the clicks."""

TRICKLE_PER_S = 20.0
"""Additional clicks after the load, until lists show that everything was learned."""

_POLL_S = 0.2


class _Version(msgspec.Struct):
    """The decoded fields of a model update: its weights are skipped."""

    model_version: str
    newest_produced_at_ms: int


class _Made(msgspec.Struct):
    """The decoded fields of a list."""

    model_version: str
    made_at_ms: int


class VersionWatch:
    """Records what each model version has learned, and when the first list was made with it; bounded by the run."""

    def __init__(self, kafka: KafkaAccess) -> None:
        self._consumer = open_observer(kafka)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="versions")
        self._learned_ms: dict[str, int] = {}
        self._served_ms: dict[str, int] = {}

    def start(self) -> None:
        """Read all retained versions, and new lists."""
        ends = end_offsets(self._consumer, partitions_of(self._consumer, (RECOMMENDATIONS,)))
        updates = partitions_of(self._consumer, (MODEL_UPDATES,))
        self._consumer.assign(
            [KafkaPartition(*source, end) for source, end in ends.items()]
            + [KafkaPartition(*source, 0) for source in updates]
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stopping.set()
        self._thread.join()

    def served_at_ms(self, produced_at_ms: Sequence[int]) -> np.ndarray:
        """Return the time of the first list by a version that learned each event, inf if there is none yet, `(N,)`.

        A version counts as having learned everything produced up to its newest event; older events that still waited
        cannot be distinguished from outside.
        """
        served = self._served_ms.copy()
        known = sorted((self._learned_ms[name], at_ms) for name, at_ms in served.items() if name in self._learned_ms)
        learned = np.array([pair[0] for pair in known], np.int64)
        # a later version includes what earlier ones learned
        since = np.minimum.accumulate(np.array([pair[1] for pair in known], np.float64)[::-1])[::-1]
        return np.append(since, np.inf)[np.searchsorted(learned, np.asarray(produced_at_ms))]

    def _watch(self) -> None:
        versions, made = msgspec.json.Decoder(_Version), msgspec.json.Decoder(_Made)
        with closing(self._consumer):
            while not self._stopping.is_set():
                message = self._consumer.poll(_POLL_S)
                if message is None or message.error() is not None:
                    continue
                value = to_record(message).value
                with suppress(BadRecordError):  # others can write to the topics, too
                    if message.topic() == MODEL_UPDATES:
                        version = decode_own(versions, value)
                        self._learned_ms[version.model_version] = version.newest_produced_at_ms
                    else:
                        topk = decode_own(made, value)
                        self._served_ms.setdefault(topk.model_version, topk.made_at_ms)


def measure(load: Load, seconds: float, *, warm_up_s: float) -> np.ndarray:
    """Generate load on a running pipeline, and return the model freshness of each event after the warm-up, in seconds.

    Raises
    ------
    StreamrecError
        If the events were not learned in time.
    """
    watch = VersionWatch(load.settings.require_kafka())
    watch.start()
    try:
        load.send(warm_up_s + seconds)
        measured = load.after(warm_up_s)
        end_s = time.monotonic() + LEARNED_S
        while not np.isfinite(served_ms := _served_ms(watch, measured)).all():
            if time.monotonic() > end_s:
                raise StreamrecError(f"{np.isinf(served_ms).sum()} of {len(measured)} events were not learned in time")
            Load(load.population, load.settings, TRICKLE_PER_S, load.seed + 1).send(1.0)
    finally:
        watch.stop()
    delays_s: np.ndarray = (served_ms - np.array([sent.sent_ms for sent in measured])) / 1_000
    return delays_s


def _served_ms(watch: VersionWatch, sent: Sequence[Sent]) -> np.ndarray:
    return watch.served_at_ms([each.sent_ms for each in sent])
