"""Compiled loops: where nothing can be kept on disk, and that none is compiled while users wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = "import numpy as np; from streamrec.model.compiled import dot; print(dot(np.ones(3), np.ones(3)))"


def test_loops_run_where_no_directory_can_keep_them():
    without_cache = os.environ | {"NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=without_cache, capture_output=True, text=True, check=False
    )
    assert ended.stdout.strip() == "3.0", ended.stderr


def test_nothing_is_compiled_after_the_warm_up(tmp_path):
    """In a process of its own: others have called the loops with all kinds of arrays."""
    program = Path(__file__).parent.parent / "warmed_up.py"
    ended = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
