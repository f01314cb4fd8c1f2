"""The metrics of a worker, on a port of its own; whoever watches finds it through the data directory."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import psutil
import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Info, start_http_server

from streamrec.errors import StreamrecError
from streamrec.service.tally import Tally, TrainingProgress
from streamrec.settings import Settings, variable_name

_DIRECTORY = "metrics"
_NAME = re.compile(r".+-([0-9]{1,7})")
"""Worker and process id."""

_log = structlog.get_logger(__name__)

MAX_FIELD_NAMES = 100
"""So many names of dropped fields are told apart for a topic; producers choose the keys of contexts."""

FRESHNESS_BUCKETS_S = (0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
"""Densest where a healthy pipeline is."""

_RECORDS_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


class WorkerMetrics:
    """What every worker says of itself.

    Parameters
    ----------
    registry
        Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._freshness = Histogram(
            "streamrec_freshness_seconds",
            "From the production of an event to its effect: in the interest state, the list, retention, the model.",
            ["stage"],
            buckets=FRESHNESS_BUCKETS_S,
            registry=registry,
        )
        self._outcomes = Counter(
            "streamrec_outcomes",
            "What records became (applied, duplicate, dead-lettered, refused), and lists made.",
            ["worker", "outcome"],
            registry=registry,
        )
        self._refused = Counter(
            "streamrec_refused",
            "Records that were refused; those of `interests` are the dead letters.",
            ["worker", "topic", "reason"],
            registry=registry,
        )
        self._shortened = Counter(
            "streamrec_shortened_records",
            "Records that were shortened to fit their topic.",
            ["worker", "topic"],
            registry=registry,
        )
        self._dropped = Counter(
            "streamrec_dropped_fields",
            "Optional fields that were left out of records that were applied, by name.",
            ["worker", "topic", "field"],
            registry=registry,
        )
        self._names: dict[str, set[str]] = {}
        """Of dropped fields, by topic."""
        self._batch_seconds = Histogram(
            "streamrec_batch_seconds", "Time that a batch took.", ["worker"], registry=registry
        )
        self._batch_records = Histogram(
            "streamrec_batch_records", "Records in a batch.", ["worker"], buckets=_RECORDS_BUCKETS, registry=registry
        )
        self._newest = Gauge(
            "streamrec_newest_effect_timestamp_seconds",
            "When the newest event was produced whose effect can be seen.",
            ["stage"],
            registry=registry,
        )

    def record_refused(self, worker: str, refused: Mapping[tuple[str, str], int]) -> None:
        """Take note of records that were refused outside of a batch, by topic and reason."""
        for (topic, reason), count in refused.items():
            self._refused.labels(worker, topic, reason).inc(count)

    def record_batch(self, worker: str, records: int, tally: Tally, *, seconds: float, now_ms: int) -> None:
        """Take note of a batch that was applied."""
        self._batch_seconds.labels(worker).observe(seconds)
        self._batch_records.labels(worker).observe(records)
        self.record_outcomes(worker, tally)
        self.record_fresh(worker, tally.produced_at_ms, now_ms=now_ms)

    def record_outcomes(self, worker: str, tally: Tally) -> None:
        """Take note of what became of records."""
        for outcome, count in tally.outcomes.items():
            self._outcomes.labels(worker, outcome).inc(count)
        self.record_refused(worker, tally.refused)
        for topic, count in tally.shortened.items():
            self._shortened.labels(worker, topic).inc(count)
        for (topic, name), count in tally.dropped.items():
            names = self._names.setdefault(topic, set())
            if len(names) < MAX_FIELD_NAMES:
                names.add(name)
            self._dropped.labels(worker, topic, name if name in names else name.split(".")[0]).inc(count)

    def record_fresh(self, stage: str, produced_at_ms: list[int], *, now_ms: int) -> None:
        """Take note that the effect of events can be seen from now on."""
        if not produced_at_ms:
            return
        freshness = self._freshness.labels(stage)
        for at_ms in produced_at_ms:
            freshness.observe(max(0, now_ms - at_ms) / 1_000)
        self.record_newest(stage, max(produced_at_ms))

    def record_newest(self, stage: str, produced_at_ms: int) -> None:
        """Take note of when the newest event was produced whose effect can be seen."""
        self._newest.labels(stage).set(produced_at_ms / 1_000)


@cache
def worker_metrics() -> WorkerMetrics:
    """Return the metrics of this process."""
    return WorkerMetrics()


class TrainerMetrics:
    """What the trainer says beside that.

    Parameters
    ----------
    registry
        Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, what: str) -> Counter:
            return Counter(f"streamrec_{name}", what, registry=registry)

        self._counters = {
            "micro_batches": counter("micro_batches", "Training steps."),
            "events": counter("trained_events", "Events that the model was trained on."),
            "tested": counter("prequential_tested", "Events that what serves was tested on before it learned them."),
            "hits": counter("prequential_hits", "Tested events whose item was among the first ten of the list."),
            "popular_hits": counter("prequential_popular_hits", "The same of the most popular items of a day."),
            "drift_alarms": counter("drift_alarms", "How often the losses said that the stream has changed."),
            "checkpoint_failures": counter("checkpoint_failures", "Checkpoints that could not be written."),
        }
        self._unsaved = Gauge(
            "streamrec_checkpoint_failing", "1 while the newest checkpoint could not be written.", registry=registry
        )
        self._loss = Gauge("streamrec_training_loss", "Moving average of the loss on new events.", registry=registry)
        self._waiting = Gauge("streamrec_training_waiting_events", "Events that wait for training.", registry=registry)
        self._made = Info("streamrec_made_model", "The newest version that was made.", registry=registry)
        self._learned = Gauge(
            "streamrec_learned_timestamp_seconds",
            "When the newest event was produced that the trainer has learned.",
            registry=registry,
        )
        self._last = TrainingProgress()

    def record_training(self, progress: TrainingProgress, *, waiting: int) -> None:
        """Take note of how training gets on."""
        for name, counter in self._counters.items():
            value, last = getattr(progress, name), getattr(self._last, name)
            counter.inc(value - last if value >= last else value)  # a rollback begins to count anew
        self._loss.set(progress.loss)
        self._waiting.set(waiting)
        self._unsaved.set(bool(progress.unsaved))
        self._learned.set(progress.learned_at_ms / 1_000)
        if progress.version != self._last.version:
            self._made.info({"version": progress.version})
        self._last = progress


class ServingMetrics:
    """What recall says beside that.

    Parameters
    ----------
    registry
        Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._serving = Info("streamrec_serving_model", "The version that serves.", registry=registry)
        self._version = ""

    def record_version(self, version: str) -> bool:
        """Take note of the version that serves, and return whether it is another one than before."""
        if version == self._version:
            return False
        self._serving.info({"version": version})
        self._version = version
        return True


PAUSED, WAITING = "streamrec_paused_seconds", "streamrec_waiting_seconds"
"""Metrics that say for how long a worker has not got on, with the reason as a label."""

MAX_REASON = 300


class Standstill:
    """Says why a worker does not get on: it has paused itself, or tries again what fails.

    Parameters
    ----------
    registry
        Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._gauges = {
            PAUSED: Gauge(PAUSED, "How long the worker has paused itself, and why.", ["reason"], registry=registry),
            WAITING: Gauge(WAITING, "How long the worker has been retrying, and why.", ["reason"], registry=registry),
        }
        self._lock = threading.Lock()
        self._standing: dict[object, tuple[str, str, float]] = {}

    @contextmanager
    def of(self, kind: str) -> Iterator[Callable[[str], None]]:
        """Return what takes the reason, for as long as the standstill may last; nothing is said before the first one.

        Several threads may stand still at a time, each for a reason of its own.
        """
        token = object()

        def say(because: str) -> None:
            with self._lock:
                _, _, since_s = self._standing.get(token, ("", "", time.monotonic()))
                self._standing[token] = kind, because[:MAX_REASON], since_s
                self._show(kind)

        try:
            yield say
        finally:
            if token in self._standing:
                with self._lock:
                    del self._standing[token]
                    self._show(kind)

    def _show(self, kind: str) -> None:
        gauge = self._gauges[kind]
        gauge.clear()
        since: dict[str, float] = {}
        for of_kind, because, since_s in self._standing.values():
            if of_kind == kind:
                since[because] = min(since_s, since.get(because, since_s))
        for because, since_s in since.items():
            gauge.labels(because).set_function(partial(_seconds_since, since_s))


def _seconds_since(since_s: float) -> float:
    return time.monotonic() - since_s


@cache
def standstill() -> Standstill:
    """Return what this process says of its standstills."""
    return Standstill()


class Endpoint(NamedTuple):
    """Where a worker's metrics are."""

    worker: str
    host: str
    port: int


class _Announced(msgspec.Struct):
    worker: str
    host: str
    port: Annotated[int, msgspec.Meta(gt=0, le=65_535)]


@contextmanager
def exported(settings: Settings, worker: str) -> Iterator[None]:
    """Serve the metrics of this process while it works.

    Raises
    ------
    StreamrecError
        If the port is taken.
    """
    try:
        server, _ = start_http_server(settings.metrics_port, settings.metrics_host)
    except OSError as error:
        raise StreamrecError(
            f"metrics cannot be served on {settings.metrics_host}:{settings.metrics_port} ({error.strerror}); "
            f"set {variable_name('metrics_port')} to another port"
        ) from error
    with announced(settings, Endpoint(worker, settings.metrics_host, server.server_port)):
        yield

    def end() -> None:
        server.shutdown()
        server.server_close()

    # in a thread: a worker that is told to stop twice must not wait for a reader of metrics
    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    ending.join(1.0)


@contextmanager
def announced(settings: Settings, endpoint: Endpoint) -> Iterator[None]:
    """Say in the data directory where this process can be asked, while it can; other machines are told by settings.

    A directory that is read-only or full costs the local monitor its view of this process, and no more.
    """
    file = _directory(settings) / f"{endpoint.worker}-{os.getpid()}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.encode(_Announced(endpoint.worker, endpoint.host, endpoint.port)))
    except OSError as error:
        _log.warning("metrics are not announced", because=str(error))
    try:
        yield
    finally:
        with suppress(OSError):  # there is none, or it stays: whoever reads it sees that this process has ended
            file.unlink()


def find_endpoints(settings: Settings) -> list[Endpoint]:
    """Return the endpoints of the workers that run on the data directory, and clear away those of dead ones."""
    found = []
    for file in sorted(_directory(settings).glob("*-*.json")):
        name = _NAME.fullmatch(file.stem)
        if name is None:
            continue  # no worker's
        if not psutil.pid_exists(int(name[1])):
            with suppress(OSError):  # read-only, or gone: it is passed over again
                file.unlink()
            continue
        found.append(_read(file))
    return [endpoint for endpoint in found if endpoint is not None]


def _directory(settings: Settings) -> Path:
    return settings.data_dir.expanduser() / settings.installation / _DIRECTORY


def _read(file: Path) -> Endpoint | None:
    try:
        said = msgspec.json.decode(file.read_bytes(), type=_Announced)
    except (OSError, msgspec.DecodeError):
        return None  # it has just ended, is being written, or is none of a worker
    return Endpoint(said.worker, said.host, said.port)
