"""`streamrec bench`: benchmarks of the pipeline on this machine."""

from __future__ import annotations

import typer

from streamrec.cli.benchmarks.backfill import backfill
from streamrec.cli.benchmarks.freshness import freshness
from streamrec.cli.benchmarks.interests import interests
from streamrec.cli.benchmarks.monitor import monitor
from streamrec.cli.benchmarks.rate import rate
from streamrec.cli.benchmarks.scale import scale
from streamrec.cli.benchmarks.topk import topk
from streamrec.cli.benchmarks.train import train

bench_app = typer.Typer(add_completion=False, no_args_is_help=True, help="Benchmark the pipeline on this machine.")
bench_app.command()(freshness)
bench_app.command()(rate)
bench_app.command()(interests)
bench_app.command()(topk)
bench_app.command()(train)
bench_app.command()(scale)
bench_app.command()(monitor)
bench_app.command()(backfill)


@bench_app.callback()
def root() -> None:
    """Measure how fast the pipeline is on this machine."""
