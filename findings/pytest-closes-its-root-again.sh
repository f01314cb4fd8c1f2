#!/usr/bin/env bash
# Guess: a test may open its temporary directory for a server of another user, as PostgreSQL needs under root, and it stays
#        open until the session ends.
# What happens: every new pytest session of the same user sets the common root, /tmp/pytest-of-USER, back to mode 0700. A
#        server of another user in a session that is still running can no longer reach its own files.
# Versions: pytest 9.2.0, Python 3.11
# Date: 2026-12-01
# Source: run here; `TempPathFactory.getbasetemp`
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pytest==9.2.0
export PYTEST_DEBUG_TEMPROOT=$folder/temporary
mkdir "$PYTEST_DEBUG_TEMPROOT"
cat > "$folder/test_second.py" <<'PYTHON'
def test_uses_a_directory_of_its_own(tmp_path):
    assert tmp_path.is_dir()
PYTHON
cat > "$folder/test_first.py" <<'PYTHON'
import stat
import subprocess
import sys
from pathlib import Path

import pytest


def mode(path):
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_the_root_is_closed_by_another_session(tmp_path):
    root = tmp_path.parent.parent
    root.chmod(0o711)
    opened = mode(root)
    second = Path(__file__).with_name("test_second.py")
    subprocess.run([sys.executable, "-m", "pytest", "-q", second], check=True, stdout=subprocess.DEVNULL)
    print("pytest", pytest.__version__, "opened:", opened, "after another session:", mode(root))
    assert (opened, mode(root)) == ("0o711", "0o700")
PYTHON
cd "$folder"
venv/bin/python -m pytest -q -s test_first.py
