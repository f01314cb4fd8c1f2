"""Real workers as processes, and what a test asks of them; every wait has a deadline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from confluent_kafka import Producer
from waiting import DEADLINE_S, wait

from streamrec.adapters.redis import RedisInterestStore, TopKReader
from streamrec.chaos.oracle import Ledger, Verdict, judge, read_ledger
from streamrec.environment import variable_name
from streamrec.local import local_stack
from streamrec.settings import Settings


class Pipeline:
    """A local stack with the workers that a test starts, stops and kills."""

    def __init__(self, stack: Any) -> None:
        self.settings = stack.settings
        self._guardian = stack.guardian
        self.temporary = Path(stack.settings.data_dir) / "test-temporary"  # marks of pauses, away from those of others
        self.temporary.mkdir()
        self._environment = {**os.environ, **stack.settings.environment(), "TMPDIR": str(self.temporary)}
        self._logs = Path(stack.settings.data_dir) / "test-logs"
        self._logs.mkdir()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.connect_producer()
        self.reader = TopKReader(self.settings.require_redis_url())
        self.store = RedisInterestStore(self.settings.require_redis_url(), state_ttl_days=self.settings.state_ttl_days)

    def connect_producer(self) -> None:
        """Produce through a client that knows the topics as they are now."""
        self.producer = Producer(
            {"bootstrap.servers": self.settings.kafka, "partitioner": "murmur2_random", "linger.ms": 5}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def start(self, *names: str, **settings: object) -> list[subprocess.Popen[bytes]]:
        """Start workers, with other settings if any are given; answer their processes."""
        changed = {variable_name(field): str(value) for field, value in settings.items()}
        started = []
        for name in names:
            with (self._logs / f"{name}.log").open("ab") as log:
                started.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "streamrec", "worker", name],
                        env=self._environment | changed,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        self._processes += started
        return started

    def log(self, name: str) -> str:
        """Return what the processes of a worker have logged."""
        return (self._logs / f"{name}.log").read_text()

    @contextmanager
    def spare_server(self, start: Callable[[Any], Any]) -> Iterator[Any]:
        """Run one more server beside those of the stack."""
        server = start(self._guardian)
        try:
            yield server
        finally:
            server.stop()

    def produce(self, topic: str, values: Iterable[dict[str, Any] | bytes | None], *, key: str = "user_id") -> None:
        """Produce records, dictionaries as JSON under the key that one of their fields holds."""
        for value in values:
            is_event = isinstance(value, dict)
            while True:
                try:
                    self.producer.produce(
                        topic,
                        key=value[key] if is_event else b"raw",
                        value=json.dumps(value).encode() if is_event else value,
                    )
                    break
                except BufferError:
                    self.producer.poll(0.1)
        assert self.producer.flush(DEADLINE_S) == 0

    def ledger(self) -> Ledger:
        settings = self.settings
        return read_ledger(settings.require_kafka(), settings.fold_rules)

    def judge(self) -> Verdict:
        return judge(self.ledger(), self.settings.require_kafka(), self.store)

    def wait_until_folded(self) -> None:
        """Wait until `interests` has read all that is in the log now."""
        ends = self.ledger().ends
        self.wait(
            lambda: all(self.store.positions(list(ends)).get(source, 0) >= end for source, end in ends.items()),
            "interests to read everything",
        )

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until a condition holds and answer its value; fail with the workers' last words after the deadline."""
        return wait(condition, what, log=self._last_words)

    def _last_words(self) -> str:
        return "".join(f"\n--- {log.name}\n{log.read_text()[-2000:]}" for log in self._logs.glob("*.log"))


@contextmanager
def own_servers(directory: Path, **settings: Any) -> Iterator[Pipeline]:
    """Run servers that nothing else uses."""
    with local_stack(Settings(data_dir=directory, **settings), progress=False) as stack, Pipeline(stack) as pipeline:
        yield pipeline


def stop(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> int:
    """Signal a process and wait for its end."""
    process.send_signal(how)
    return process.wait(DEADLINE_S)
