"""Separate environment for software that streamrec is compared with."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import platformdirs

import streamrec
from streamrec.errors import StreamrecError

PROGRAMS = Path(str(resources.files("streamrec.bench") / "peers"))
DEADLINE_S = 900.0


def peer_python(report: Callable[[str], None]) -> Path:
    """Return the interpreter of the environment, which is created once per user.

    Raises
    ------
    StreamrecError
        If it cannot be installed.
    """
    pinned = PROGRAMS / "requirements.txt"
    digest = hashlib.sha256(pinned.read_bytes() + sys.version.encode()).hexdigest()[:12]
    directory = platformdirs.user_cache_path("streamrec") / f"peers-{digest}"
    python = directory / "bin" / "python"
    complete = directory / "complete"
    if not complete.exists():
        report(f"installing the systems to compare with into {directory}")
        venv.create(directory, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(pinned)]
        installed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own command
        if installed.returncode:
            raise StreamrecError(f"the systems to compare with cannot be installed: {installed.stderr.strip()}")
        complete.touch()
    return python


def run_peer(python: Path, program: str, *arguments: object) -> dict[str, Any]:
    """Run a program in `peers/`, and return the JSON object that it prints.

    Raises
    ------
    StreamrecError
        If it fails, or times out.
    """
    try:
        finished = subprocess.run(  # noqa: S603  # our own programs
            [python, PROGRAMS / program, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(Path(streamrec.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )
    except subprocess.TimeoutExpired:
        raise StreamrecError(f"{program} did not finish in {DEADLINE_S:.0f} s") from None
    # they print other lines there, too
    lines = [line for line in finished.stdout.splitlines() if line.startswith("{")]
    if finished.returncode or not lines:
        raise StreamrecError(f"{program} failed: {(finished.stderr or finished.stdout).strip()[-2_000:]}")
    printed: dict[str, Any] = json.loads(lines[-1])
    return printed
