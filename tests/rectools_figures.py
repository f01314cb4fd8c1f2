"""Writes `rectools_figures.json`: metrics of made lists, as RecTools computes them.

    python -m venv rectools && rectools/bin/pip install rectools==0.19.0
    rectools/bin/python tests/rectools_figures.py

`test_against_rectools.py` computes the same lists with streamrec.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

USERS, ITEMS, LENGTH, DIM = 200, 60, 20, 8


def made():
    """Return lists, `(USERS, LENGTH)`, the item of each user's event, the earlier events' items, and item vectors."""
    draw = np.random.default_rng(11)
    lists = np.stack([draw.permutation(ITEMS)[:LENGTH] for _ in range(USERS)])
    items = draw.integers(0, ITEMS, USERS)
    earlier = np.minimum(draw.zipf(1.4, 500) - 1, ITEMS - 1)
    earlier[:ITEMS] = np.arange(ITEMS)
    vectors = draw.standard_normal((ITEMS, DIM))
    return lists, items, earlier, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main():
    """Compute the figures."""
    # of an environment with RecTools; the test only needs `made`
    import pandas as pd  # noqa: PLC0415
    from rectools import metrics  # noqa: PLC0415
    from rectools.metrics.distances import PairwiseDistanceCalculator  # noqa: PLC0415

    class Cosine(PairwiseDistanceCalculator):
        def _get_distances_for_item_pairs(self, one, other):
            return 1.0 - (vectors[np.asarray(one)] * vectors[np.asarray(other)]).sum(1)

    lists, items, earlier, vectors = made()
    listed = pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), LENGTH),
            "item_id": lists.ravel(),
            "rank": np.tile(np.arange(1, LENGTH + 1), USERS),
        }
    )
    events = pd.DataFrame({"user_id": np.arange(USERS), "item_id": items})
    before = pd.DataFrame({"user_id": np.arange(len(earlier)), "item_id": earlier})
    figures = {}
    for k in (10, 20):
        asked = {
            f"precision_at_{k}": metrics.Precision(k),
            f"recall_at_{k}": metrics.Recall(k),
            f"f1_at_{k}": metrics.F1Beta(k),
            f"ndcg_at_{k}": metrics.NDCG(k, divide_by_achievable=True),
            f"mrr_at_{k}": metrics.MRR(k),
            f"coverage_at_{k}": metrics.CatalogCoverage(k, normalize=True),
            f"novelty_at_{k}": metrics.MeanInvUserFreq(k),
            f"intra_list_distance_at_{k}": metrics.IntraListDiversity(k, Cosine()),
        }
        figures |= metrics.calc_metrics(asked, listed, events, before, catalog=np.arange(ITEMS))
    file = Path(__file__).with_suffix(".json")
    file.write_text(json.dumps({name: float(value) for name, value in sorted(figures.items())}, indent=2) + "\n")
    sys.stdout.write(file.read_text())


if __name__ == "__main__":
    main()
