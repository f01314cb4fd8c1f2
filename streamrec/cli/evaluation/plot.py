"""Plot of a prequential run over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from streamrec.errors import UsageError
from streamrec.evaluation.summary import PrequentialResult
from streamrec.visible import visible

DRAWN_BASELINES = 3
"""The best baselines."""


def check_plot(path: Path) -> None:
    """Check before a long run that its plot can be written.

    Raises
    ------
    UsageError
        If the library is missing, or the file cannot be written.
    """
    try:
        import matplotlib.figure  # noqa: F401, PLC0415  # an extra: only pictures need it
    except ModuleNotFoundError:
        raise UsageError("--plot needs matplotlib: install streamrec[eval]") from None
    if path.suffix != ".png" or not path.parent.is_dir():
        raise UsageError(f"{path}: expected a .png file in an existing folder")


def plot_windows(result: PrequentialResult, path: Path, *, title: str) -> None:
    """Write NDCG@10 of the model and of the best baselines over the windows, and the share of new items."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra: only pictures need it

    middles = np.array([(w.from_ms + w.to_ms) // 2 for w in result.windows], "datetime64[ms]")
    best = sorted(result.baselines, key=lambda name: -result.baselines[name])[:DRAWN_BASELINES]
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(middles, [w.ndcg_at_10 for w in result.windows], marker="o", linewidth=2, label="streamrec")
    for name in best:
        axes.plot(middles, [w.baselines[name] for w in result.windows], marker=".", label=name)
    axes.plot(middles, [w.new_item_share for w in result.windows], ":", color="grey", label="share of new items")
    axes.set_title(visible(title), parse_math=False)  # it contains a file name, in which $ is not math
    axes.set(ylabel="NDCG@10", xlabel="event time (UTC), middle of a tenth of the scored events")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.autofmt_xdate()
    figure.savefig(path, dpi=120)
