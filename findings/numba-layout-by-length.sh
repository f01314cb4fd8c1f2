#!/usr/bin/env bash
# Guess: a loop that was compiled for a column of a table, `table[:, 0]`, is compiled for all such columns.
# What happens: a column of a table with a single column, or with a single row, is contiguous, so numba gives it another
#   type (layout C instead of A) and compiles the loop again, which takes as long as at first. A service that warms its
#   loops up with typical arrays still stalls at the first table of that shape. Whole arrays, or an index of the first
#   axis (`table[0]`), have one layout whatever their length.
# Versions: numba 0.68.1, numpy 2.4.6, Python 3.11
# Date: 2026-12-01
# Source: run here
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numba==0.68.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import time

import numba
import numpy as np


@numba.njit
def total(values):
    found = 0.0
    for value in values:
        found += value
    return found


def first_call_s(values):
    started_s = time.perf_counter()
    total(values)
    return time.perf_counter() - started_s


print("numba", numba.__version__, "numpy", np.__version__)
compiled_s = first_call_s(np.ones((5, 3))[:, 0])
again_s = first_call_s(np.ones((7, 2))[:, 0])
single_column_s = first_call_s(np.ones((5, 1))[:, 0])
print(f"5 x 3: {compiled_s:.4f} s, then 7 x 2: {again_s:.4f} s, then 5 x 1: {single_column_s:.4f} s")
layouts = [signature[0].layout for signature in total.signatures]
print("compiled for the layouts", layouts)
assert layouts == ["A", "C"]
total(np.ones((1, 3))[:, 0])
rows = [np.ones(shape)[0] for shape in ((5, 3), (5, 1), (1, 3))]
assert all(row.flags.c_contiguous for row in rows)
assert [signature[0].layout for signature in total.signatures] == ["A", "C"]
assert single_column_s > 10 * again_s
PYTHON
