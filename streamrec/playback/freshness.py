"""Measures the age of lists when consumers receive them."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
from confluent_kafka import TopicPartition as KafkaPartition

from streamrec.adapters.kafka.client import to_record
from streamrec.adapters.kafka.lag import end_offsets, open_observer, partitions_of
from streamrec.contracts.decode import decode_own
from streamrec.contracts.derived import TopKList
from streamrec.contracts.topics import RECOMMENDATIONS
from streamrec.errors import BadRecordError
from streamrec.kafka_access import KafkaAccess

MAX_DELAYS = 100_000
"""Number of the latest delays to keep."""

_POLL_S = 0.5


class FreshnessWatch:
    """Records the delay of each list that arrives while the context is active.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        self._consumer = open_observer(kafka)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="freshness")
        self.delays_ms: deque[float] = deque(maxlen=MAX_DELAYS)

    def percentile_ms(self, percent: float) -> float | None:
        """Return a percentile of the delays, `None` if no list arrived."""
        return round(float(np.percentile(self.delays_ms, percent)), 1) if self.delays_ms else None

    def __enter__(self) -> Self:
        ends = end_offsets(self._consumer, partitions_of(self._consumer, (RECOMMENDATIONS,)))
        self._consumer.assign([KafkaPartition(*source, end) for source, end in ends.items()])
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def _watch(self) -> None:
        decoder = msgspec.json.Decoder(TopKList)
        while not self._stopping.is_set():
            message = self._consumer.poll(_POLL_S)
            if message is None or message.error() is not None or message.value() is None:
                continue
            arrived_ms = time.time() * 1_000
            with suppress(BadRecordError):  # others can write to the topic, too
                topk = decode_own(decoder, to_record(message).value)
                if not topk.rebuilt:
                    self.delays_ms.append(arrived_ms - topk.produced_at_ms)
