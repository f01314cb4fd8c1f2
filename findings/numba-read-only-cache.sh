#!/usr/bin/env bash
# Guess: numba reads compiled functions from NUMBA_CACHE_DIR whether or not it may write there, as Python reads bytecode,
#        so that a container image can ship them in a root-owned directory.
# What happens: it writes a temporary file there first, and if that fails it never reads the directory: it compiles again
#        into the user's own cache without a warning or, if there is none either, fails to import the function with "no
#        locator available". An image must copy the directory to where the process may write.
# Versions: numba 0.68.1, Python 3.11
# Date: 2026-11-30
# Source: run here
set -euo pipefail
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numba==0.68.1
mkdir "$folder/code" "$folder/cache" "$folder/home"
cat >"$folder/code/double.py" <<'PYTHON'
import numba


@numba.njit("i8(i8)", cache=True)
def double(number):
    return 2 * number
PYTHON
chmod 755 "$folder"
chmod 777 "$folder/home"
export NUMBA_CACHE_DIR=$folder/cache PYTHONDONTWRITEBYTECODE=1

# imports the function as a user who is not root, and prints whether it came from a cache, or the error
try() {
  HOME=$1 XDG_CACHE_HOME=$1 "$folder/venv/bin/python" - "$folder/code" <<'PYTHON'
import os
import sys

import numba

numba.njit("i8(i8)")(lambda number: number)  # imports all that compiling needs
if os.getuid() == 0:
    os.setuid(65534)  # root may write anywhere
sys.path.insert(0, sys.argv[1])
try:
    from double import double
except RuntimeError as error:
    print("error", str(error).split(":")[0])
else:
    print("read" if sum(double.stats.cache_hits.values()) else "compiled")
PYTHON
}

"$folder/venv/bin/python" -c "import sys; sys.path.insert(0, '$folder/code'); import double, numba; print('numba', numba.__version__)"
chmod -R a+rX,a-w "$folder/cache" "$folder/code"
beside=$(try "$folder/home")
nowhere=$(try /proc)
chmod -R a+rwX "$folder/cache"
writable=$(try /proc)
printf '%s\n' "read-only, with a home: $beside" "read-only, without a home: $nowhere" "writable: $writable"
[ "$beside" = compiled ] && [ "$nowhere" = "error cannot cache function 'double'" ] && [ "$writable" = read ]
