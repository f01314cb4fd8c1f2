"""The lower bound (floor) of freshness: the same clicks over two no-op hops on the same servers.

No two processes between Kafka and Redis can be faster on this machine, so latencies are best expressed as multiples of
it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streamrec.adapters.kafka.client import client_config
from streamrec.bench.arrivals import POLL_S, KeyWatch
from streamrec.bench.load import Load
from streamrec.errors import StreamrecError
from streamrec.local import Stack

START_S = 120.0
"""Timeout for the first click."""

ARRIVAL_S = 30.0

_TOPICS = ("bench-floor-1", "bench-floor-2")
_PREFIX = "bench-floor:"


@contextmanager
def relays(stack: Stack) -> Iterator[None]:
    """Run the two hops in separate processes, like workers."""
    settings = stack.settings
    admin = AdminClient(client_config(settings.require_kafka()))
    created = admin.create_topics([NewTopic(topic, settings.partitions, settings.replication) for topic in _TOPICS])
    for future in created.values():
        future.result()
    hops = zip(_TOPICS, (_TOPICS[1], _PREFIX), strict=True)
    processes = [
        stack.guardian.spawn(
            [sys.executable, "-m", "streamrec.bench.relay", *hop],
            log=settings.data_dir / "relay.log",
            env=os.environ | settings.environment(),
        )
        for hop in hops
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(load: Load, seconds: float, *, warm_up_s: float) -> np.ndarray:
    """Send load over the two hops instead of the pipeline.

    Parameters
    ----------
    load
        Load for the pipeline.
    seconds
        Duration after the warm-up.

    Returns
    -------
    np.ndarray
        Milliseconds from when each click was due until its key was set, or until the end, `(N,)`.

    Raises
    ------
    StreamrecError
        If the hops do not work.
    """
    settings = load.settings
    load = replace(load, topic=_TOPICS[0], sent=[])
    keys = KeyWatch(settings.require_redis_url(), _PREFIX)
    keys.start()
    try:
        _wait_until_ready(load, keys)
        keys.set_s.clear()
        load.send(warm_up_s + seconds)
        end_s = time.monotonic() + ARRIVAL_S
        while _count(keys) < len(load.sent) and time.monotonic() < end_s:
            time.sleep(POLL_S)
    finally:
        keys.stop()
    now_s = time.time()
    # a user's clicks stay in order
    set_s = {user_id: iter(times_s) for user_id, times_s in keys.set_s.items()}
    taken = [next(set_s.get(sent.user_id, iter(())), now_s) - sent.due_s for sent in load.sent]
    measured = load.after(warm_up_s)
    return np.array(taken[len(taken) - len(measured) :]) * 1_000


def _wait_until_ready(load: Load, keys: KeyWatch) -> None:
    first = replace(load, rate=20.0, sent=[])
    first.send(0.1)
    end_s = time.monotonic() + START_S
    while _count(keys) < len(first.sent):
        if time.monotonic() > end_s:
            raise StreamrecError(f"the hops of the floor forwarded no click in {START_S:.0f} s")
        time.sleep(POLL_S)


def _count(keys: KeyWatch) -> int:
    return sum(map(len, keys.set_s.copy().values()))
