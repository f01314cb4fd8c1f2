#!/usr/bin/env bash
# Guess: with one relevant item per user, a list that holds it in the first place has an NDCG@10 of 1, in RecTools as in
#        the papers whose figures it is compared with.
# What happens: NDCG(k) divides by the gain of a list of k relevant items, whatever a user has: such a list has .2201,
#        and no leave-one-out figure can exceed that. NDCG(k, divide_by_achievable=True) gives 1. MAP(k), in the same
#        package, divides by what is achievable by default.
# Versions: rectools 0.19.0, pandas 2.3.3, numpy 1.26.4, Python 3.11
# Date: 2026-11-30
# Source: run here
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rectools==0.19.0 pandas==2.3.3 numpy==1.26.4
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import pandas as pd
import rectools
from rectools.metrics import MAP, NDCG

lists = pd.DataFrame({"user_id": 0, "item_id": np.arange(10), "rank": np.arange(1, 11)})
events = pd.DataFrame({"user_id": [0], "item_id": [0]})

whatever = NDCG(10).calc(lists, events)
achievable = NDCG(10, divide_by_achievable=True).calc(lists, events)
precision = MAP(10).calc(lists, events)
print("rectools", rectools.__version__, "pandas", pd.__version__, "numpy", np.__version__)
print("the only relevant item is first:")
print(f"NDCG@10 {whatever:.4f}, of the achievable {achievable:.4f}, MAP@10 {precision:.4f}")
assert abs(whatever - 1.0 / (1.0 / np.log2(np.arange(2, 12))).sum()) < 1e-9
assert achievable == precision == 1.0
PYTHON
