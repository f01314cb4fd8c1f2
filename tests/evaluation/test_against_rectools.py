"""The metrics of lists are those of RecTools, whose figures `rectools_figures.py` wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rectools_figures import ITEMS, made

from streamrec.evaluation.metrics import NOT_LISTED, f1, intra_list_distance, ndcg, reciprocal_rank

FIGURES = json.loads((Path(__file__).parents[1] / "rectools_figures.json").read_text())


@pytest.mark.parametrize("k", [10, 20])
def test_metrics_are_those_of_rectools(k):
    lists, items, earlier, vectors = made()
    asked = zip(lists.tolist(), items.tolist(), strict=True)
    ranks = np.array([own.index(item) if item in own else NOT_LISTED for own, item in asked])
    hits = ranks < k
    bits = -np.log2(np.bincount(earlier, minlength=ITEMS) / len(earlier))
    figures = {
        "precision": hits.mean() / k,
        "recall": hits.mean(),
        "f1": hits.mean() * f1(1.0 / k, 1.0),
        "ndcg": ndcg(ranks, k).mean(),
        "mrr": reciprocal_rank(ranks, k).mean(),
        "coverage": len(np.unique(lists[:, :k])) / ITEMS,
        "novelty": bits[lists[:, :k]].mean(),
        "intra_list_distance": np.mean([intra_list_distance(vectors[own]) for own in lists[:, :k]]),
    }
    for name, value in figures.items():
        assert value == pytest.approx(FIGURES[f"{name}_at_{k}"], abs=1e-9), name
