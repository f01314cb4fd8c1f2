"""Compiled loops where nothing can be kept on disk."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = "import numpy as np; from streamrec.model.compiled import dot; print(dot(np.ones(3), np.ones(3)))"


def test_loops_run_where_no_directory_can_keep_them():
    without_cache = os.environ | {"NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=without_cache, capture_output=True, text=True, check=False
    )
    assert ended.stdout.strip() == "3.0", ended.stderr
