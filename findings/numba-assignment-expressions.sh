#!/usr/bin/env bash
# Guess: numba compiles an assignment expression (`:=`) as it compiles the same assignment on a line of its own.
# What happens: in the condition of an `if` or a `while` it is a TypingError, "Type of variable '$18compare_op.4' cannot be
#        determined", which names a bytecode and not the expression. The assignment on its own line compiles.
# Versions: numba 0.68.1, numpy 2.4.6, Python 3.11
# Date: 2026-12-01
# Source: run here
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numba==0.68.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numba
from numba.core.errors import TypingError


def on_a_line(x):
    y = x + 1
    if y > 2:
        return y
    return 0


def in_an_if(x):
    if (y := x + 1) > 2:
        return y
    return 0


def in_a_while(x):
    while (y := x + 1) < 5:
        x = y
    return x


said = {}
for function in (on_a_line, in_an_if, in_a_while):
    expected = function(3)
    try:
        assert numba.njit(function)(3) == expected
        said[function.__name__] = "compiled"
    except TypingError as error:
        said[function.__name__] = next(line for line in str(error).splitlines() if "cannot be determined" in line)[:60]
print("numba", numba.__version__)
for name, what in said.items():
    print(f"{name}: {what}")
assert said["on_a_line"] == "compiled"
assert all("Type of variable" in said[name] for name in ("in_an_if", "in_a_while"))
PYTHON
