#!/usr/bin/env bash
# Guess: a function compiled with cache=True and called once with an array of integers is compiled for every array of
#        integers of one axis, also for a field of a structured array.
# What happens: a field is a view with gaps, which numba types with the layout "A" instead of "C": a second signature, which
#        is compiled at its first call, seconds into the work, although a warm-up has filled the cache. A contiguous copy
#        uses the first one.
# Versions: numba 0.68.1, numpy 2.4.6, Python 3.11
# Date: 2026-12-01
# Source: run here
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numba==0.68.1 numpy==2.4.6
cat >"$folder/total.py" <<'PYTHON'
import numpy as np
from numba import njit


@njit(cache=True)
def total(values):
    result = 0
    for value in values:
        result += value
    return result


def layouts():
    return [signature[0].layout for signature in total.signatures]


events = np.zeros(4, np.dtype([("time_ms", np.int64), ("row", np.int32)]))
total(np.zeros(4, np.int64))
print("after an array:", layouts())
assert layouts() == ["C"]
total(np.ascontiguousarray(events["time_ms"]))
print("after a contiguous copy of a field:", layouts())
assert layouts() == ["C"]
total(events["time_ms"])
print("after a field:", layouts())
assert layouts() == ["C", "A"]
PYTHON
cd "$folder" && "$folder/venv/bin/python" total.py
