"""A transactional producer in addition to the load: committed records count, aborted ones do not."""

from __future__ import annotations

import threading
import time
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamrec.adapters.kafka.client import client_config
from streamrec.chaos.faults import WINDOW_S
from streamrec.chaos.load import Acknowledged, Produced, Settle, produce, records
from streamrec.kafka_access import KafkaAccess

EVENTS = 40
"""Events per transaction."""

TIMEOUT_S = 30.0
_OF_TRANSACTIONS = 1_000_000
"""Added to the seed, so that event ids are unique."""


class Transactions:
    """Runs transactions in separate threads: one that is committed, then one that stays open and is aborted.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    acknowledged
        Records committed events.
    """

    def __init__(self, kafka: KafkaAccess, acknowledged: Acknowledged) -> None:
        self._kafka = kafka
        self._acknowledged = acknowledged
        self._threads: list[threading.Thread] = []

    def begin(self, seed: int) -> None:
        """Run two transactions with the events of a seed."""
        self._threads.append(threading.Thread(target=self._run, args=(seed,), name="transactions"))
        self._threads[-1].start()

    @property
    def are_open(self) -> bool:
        """Whether a transaction may be open."""
        return any(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        """Wait until all have ended."""
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        name = f"chaos-{seed}"
        events = (each[0] for each in records(seed + _OF_TRANSACTIONS, poison_share=0.0))
        committed, aborted = ([next(events) for _ in range(EVENTS)] for _ in range(2))
        try:
            producer = self._open(name)
            self._commit(producer, committed)
            self._abort(producer, aborted)
        except KafkaException:
            # the broker failed: the next producer with the same transactional id aborts the open transaction
            while not self._is_ended(name):
                time.sleep(1.0)

    def _open(self, name: str) -> Producer:
        config = {"transactional.id": name, "transaction.timeout.ms": 60_000, "partitioner": "murmur2_random"}
        producer = Producer(client_config(self._kafka) | config)
        producer.init_transactions(TIMEOUT_S)
        return producer

    def _commit(self, producer: Producer, events: list[Produced]) -> None:
        taken: list[Message] = []
        self._send(producer, events, partial(_keep, taken))
        producer.commit_transaction(TIMEOUT_S)
        for message in taken:
            self._acknowledged.take_note(message, "")

    def _abort(self, producer: Producer, events: list[Produced]) -> None:
        self._send(producer, events, _forget)
        time.sleep(WINDOW_S)
        producer.abort_transaction(TIMEOUT_S)

    def _send(self, producer: Producer, events: list[Produced], settle: Settle) -> None:
        producer.begin_transaction()
        for event in events:
            produce(producer, event, settle)
        producer.flush(TIMEOUT_S)

    def _is_ended(self, name: str) -> bool:
        try:
            self._open(name)
        except KafkaException:
            return False
        return True


def _keep(taken: list[Message], error: KafkaError | None, message: Message) -> None:
    if error is None:
        taken.append(message)


def _forget(_error: KafkaError | None, _message: Message) -> None:
    """Ignore an event."""
