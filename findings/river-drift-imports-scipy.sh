#!/usr/bin/env bash
# Guess: a drift detector whose code is Rust, as ADWIN's in river 0.26, costs next to nothing to import.
# What happens: the package river.drift imports all of its detectors and data sets, and one of these imports scipy.stats:
#        a thousand modules, most of a second in each process that starts. The module river.drift.adwin needs some
#        eighty and no scipy, but it cannot be imported without its package, unless an empty package stands in for it.
# Versions: river 0.26.1, scipy 1.17.1, numpy 2.4.6, Python 3.11
# Date: 2026-11-30
# Source: run here
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check river==0.26.1 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import subprocess
import sys

WHOLE = "from river.drift import ADWIN"
ALONE = """
from importlib.util import find_spec
from types import ModuleType

package = ModuleType("river.drift")
package.__path__ = list(find_spec("river.drift").submodule_search_locations)
sys.modules["river.drift"] = package
from river.drift.adwin import ADWIN
"""


def imported(code):
    """Return how many modules code imports, and whether scipy.stats is one; it must leave a detector that works."""
    program = f"""
import sys
before = len(sys.modules)
{code}
count = len(sys.modules) - before
detector = ADWIN()
found = [number for number in range(2_000) if detector.update(number >= 1_000) or detector.drift_detected]
assert found and found[0] >= 1_000
print(count, "scipy.stats" in sys.modules)
"""
    count, scipy = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    return int(count), scipy == "True"


import river

whole, alone = imported(WHOLE), imported(ALONE)
print("river", river.__version__)
print("with its package: {} modules, scipy.stats {}".format(*whole))
print("the module alone: {} modules, scipy.stats {}".format(*alone))
assert whole[1] and not alone[1] and whole[0] > 4 * alone[0]
PYTHON
