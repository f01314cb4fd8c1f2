"""A complete pipeline for benchmarks: real servers, all workers, users with a history, and a serving model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from streamrec.adapters.redis import TopKReader
from streamrec.bench.load import Load
from streamrec.bench.population import Population, settle
from streamrec.cli.output import progress_bar
from streamrec.local import Stack, Supervisor, local_stack
from streamrec.playback.backpressure import InFlight
from streamrec.settings import Settings


class RunningPipeline(NamedTuple):
    """What runs."""

    stack: Stack
    supervisor: Supervisor
    in_flight: InFlight


@contextmanager
def running_pipeline(population: Population) -> Iterator[RunningPipeline]:
    """Run everything in a temporary directory; enter once a model makes lists, stop when the context exits."""
    with TemporaryDirectory(prefix="streamrec-bench-") as directory:
        settings = Settings.for_own_servers(data_dir=Path(directory))
        with local_stack(settings, progress=True) as stack:
            settle_population(population, stack.settings)
            with (
                Supervisor(stack, Path(directory) / "logs") as supervisor,
                closing(InFlight(stack.settings)) as in_flight,
            ):
                wait_for_model(population, stack.settings, in_flight)
                yield RunningPipeline(stack, supervisor, in_flight)


def settle_population(population: Population, settings: Settings) -> None:
    """Give every user a history, and the trainer a checkpoint that has learned it."""
    with progress_bar() as bar:
        task = bar.add_task("users", total=population.users, rate="")
        settle(
            population,
            settings,
            now_ms=time.time_ns() // 1_000_000,
            report=lambda number: bar.update(task, completed=number),
        )


def wait_for_model(population: Population, settings: Settings, in_flight: InFlight) -> None:
    """Publish a few events before the workers start, and continue until a model makes lists."""
    reader = TopKReader(settings.require_redis_url())
    while not (default := reader.read("")) or not default.model_version:
        Load(population, settings, rate=20.0, seed=population.seed - 1).send(1.0)
        in_flight.wait_until_at_most(0)
