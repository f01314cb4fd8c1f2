#!/usr/bin/env bash
# Guess: a function compiled by numba with cache=True, made by another function, is read from the cache by the next
#        process, whatever variables of the outer function it uses.
# What happens: it is if they are numbers. If one is a compiled function, or an @intrinsic, every process compiles it again,
#        and leaves one more file in the cache directory, without a warning.
# Versions: numba 0.68.1, numpy 2.4.6, Python 3.11
# Date: 2026-11-30
# Source: run here
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numba==0.68.1 numpy==2.4.6
cat > "$folder/made.py" <<'PYTHON'
from numba import njit, types
from numba.extending import intrinsic


def of_number():
    factor = 2

    @njit(cache=True)
    def double(x):
        return factor * x

    return double


def of_compiled():
    @njit
    def twice(x):
        return 2 * x

    @njit(cache=True)
    def double(x):
        return twice(x)

    return double


def of_intrinsic():
    @intrinsic
    def twice(typing_context, x):
        def generate(context, builder, signature, args):
            return builder.add(args[0], args[0])

        return types.int64(types.int64), generate

    @njit(cache=True)
    def double(x):
        return twice(x)

    return double


hits = {}
for make in (of_number, of_compiled, of_intrinsic):
    double = make()
    assert double(3) == 6
    hits[make.__name__] = sum(double.stats.cache_hits.values())
PYTHON
cd "$folder"
for process in 1 2 3; do
  NUMBA_CACHE_DIR=$folder/cache venv/bin/python - "$process" "$folder/cache" <<'PYTHON'
import sys
from pathlib import Path

import numba

import made

process = int(sys.argv[1])
files = len(list(Path(sys.argv[2]).rglob("*.nbc")))
print("numba", numba.__version__, "process", process, "read from the cache:", made.hits, "files:", files)
assert made.hits == {"of_number": int(process > 1), "of_compiled": 0, "of_intrinsic": 0}
assert files == 1 + 2 * process
PYTHON
done
