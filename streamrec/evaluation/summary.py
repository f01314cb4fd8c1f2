"""Summary of the scores of a prequential run."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct

from streamrec.evaluation.list_quality import ChannelRecall, ListQuality
from streamrec.evaluation.metrics import CUTOFF, LONGER_CUTOFF, Scores, f1, ndcg, reciprocal_rank
from streamrec.evaluation.significance import interval, mcnemar, resampled_means

WINDOWS = 10


class Measures(Struct, kw_only=True):
    """Metrics of the model's lists on some events."""

    events: int
    ndcg_at_10: float
    ndcg_at_20: float
    hit_rate_at_10: float
    hit_rate_at_20: float
    mrr_at_10: float
    mrr_at_20: float
    coverage: float
    """Share of the items so far that were in any top 10 list."""
    novelty: float
    """Mean self-information of the items in a top 10 list, in bits: -log2 of an item's share of the events so far."""
    precision_at_10: float
    recall_at_10: float
    """The hit rate: each event has one item."""
    f1_at_10: float
    new_item_share: float
    """Share of events on new items, which are misses for every method."""


class Window(Measures, kw_only=True):
    """A tenth of the scored events, in stream order."""

    from_ms: int
    to_ms: int
    baselines: dict[str, float]
    """NDCG@10 by name."""


class PrequentialResult(Measures, kw_only=True):
    """Metrics over a stream; `events` are the scored ones."""

    ndcg_at_10_interval: tuple[float, float]
    """95 % interval by a bootstrap over users, like the others."""
    ndcg_at_10_of_known_items: float
    """Over events on items that had occurred before."""
    channels: dict[str, ChannelRecall]
    """By channel, on a quarter of the lists, like the next two."""
    intra_list_distance: float | None
    """Mean cosine distance of the pairs of items in a top 10 list, by the vectors of the model."""
    calibration: float | None
    """Mean divergence of the categories of a top 10 list from those of the user's sequence; `None` without any."""
    baselines: dict[str, float]
    """NDCG@10 by name, on the same events."""
    baseline_hit_rates_at_10: dict[str, float]
    best_baseline: str
    relative_gain: float
    """Relative gain in NDCG@10 over the best baseline."""
    relative_gain_interval: tuple[float, float]
    p_value: float
    """p of McNemar's test on hits at 10 against the best baseline."""
    windows: list[Window]
    learned_events: int
    """Including those before the scored ones."""
    rollbacks: int
    """Number of rollbacks by the guard."""
    skipped: dict[str, int]
    """Skipped rows by event type."""
    cpu_s: dict[str, float]
    """CPU time by activity."""
    seconds: float
    seed: int
    settings: dict[str, Any]


def summarize(scores: Scores, quality: ListQuality, *, seed: int, **run: Any) -> PrequentialResult:  # noqa: ANN401  # fields of the result
    """Return the figures of all scored events and of each window.

    Parameters
    ----------
    quality
        What was found of some of the lists.
    seed
        Random seed of the run and the resampling.
    run
        Other fields of the result: `learned_events`, `rollbacks`, `skipped`, `cpu_s`, `seconds`, `settings`.
    """
    ranks = scores.ranks
    gains = ndcg(ranks)
    of_baselines = _by_name(scores, gains)
    best = max(of_baselines, key=lambda name: of_baselines[name])
    column = scores.names.index(best)
    hits = ranks < CUTOFF
    resampled = resampled_means(gains[:, [0, column]], np.asarray(scores.users), np.random.default_rng(seed))
    known = ~np.asarray(scores.is_new, bool)
    of_lists = quality.distances, quality.calibrations
    distance, divergence = (_rounded(np.mean(values)) if values else None for values in of_lists)
    return PrequentialResult(
        **_measures(scores, slice(None)),
        ndcg_at_10_interval=interval(resampled[:, 0]),
        ndcg_at_10_of_known_items=_rounded(gains[known, 0].sum() / max(known.sum(), 1)),
        channels=quality.channels(),
        intra_list_distance=distance,
        calibration=divergence,
        baselines=of_baselines,
        baseline_hit_rates_at_10=_by_name(scores, hits),
        best_baseline=best,
        relative_gain=_rounded(_gain(*gains[:, [0, column]].mean(0)).item()),
        relative_gain_interval=interval(_gain(resampled[:, 0], resampled[:, 1])),
        p_value=mcnemar(hits[:, 0], hits[:, column]),
        windows=[
            Window(
                **_measures(scores, part),
                from_ms=scores.times_ms[part.start],
                to_ms=scores.times_ms[part.stop - 1],
                baselines=_by_name(scores, gains[part]),
            )
            for part in _parts(len(scores))
        ],
        seed=seed,
        **run,
    )


def _parts(events: int) -> list[slice]:
    ends = [events * (number + 1) // WINDOWS for number in range(WINDOWS)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False) if end > start]


def _measures(scores: Scores, part: slice) -> dict[str, Any]:
    ranks, listed = scores.ranks[part, 0], scores.listed[part]
    return {
        "events": len(ranks),
        "ndcg_at_10": _rounded(ndcg(ranks).mean()),
        "ndcg_at_20": _rounded(ndcg(ranks, LONGER_CUTOFF).mean()),
        "hit_rate_at_10": _rounded((ranks < CUTOFF).mean()),
        "hit_rate_at_20": _rounded((ranks < LONGER_CUTOFF).mean()),
        "mrr_at_10": _rounded(reciprocal_rank(ranks).mean()),
        "mrr_at_20": _rounded(reciprocal_rank(ranks, LONGER_CUTOFF).mean()),
        "coverage": _rounded(len(np.unique(listed[listed >= 0])) / max(scores.known_items[part][-1], 1)),
        "novelty": _rounded(np.mean(scores.novelty[part])),
        "precision_at_10": _rounded((ranks < CUTOFF).mean() / CUTOFF),
        "recall_at_10": _rounded((ranks < CUTOFF).mean()),
        "f1_at_10": _rounded((ranks < CUTOFF).mean() * f1(1.0 / CUTOFF, 1.0)),
        "new_item_share": _rounded(np.mean(scores.is_new[part])),
    }


def _by_name(scores: Scores, values: np.ndarray) -> dict[str, float]:
    """Return the mean of each baseline's column."""
    return {name: _rounded(mean) for name, mean in zip(scores.names[1:], values[:, 1:].mean(0).tolist(), strict=True)}


def _gain(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return np.asarray(ours / np.maximum(theirs, 1e-9) - 1.0)


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 5)
