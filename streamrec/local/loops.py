"""Compiles the loops of the model while servers start: once per installation rather than in each worker."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import platformdirs
import structlog

from streamrec.local.guardian import Guardian
from streamrec.local.terminal import TERMINAL

MODEL = "streamrec.model"
COMPILE = (sys.executable, "-m", f"{MODEL}.warm_up")
CACHE = platformdirs.user_cache_path("streamrec") / "compiled"
"""Markers of compiled installations, one small file each."""

_log = structlog.get_logger(__name__)


@contextmanager
def compiled_meanwhile(guardian: Guardian, log: Path) -> Iterator[None]:
    """Compile uncompiled loops concurrently with the body, and wait for completion on exit.

    If that fails, each worker compiles for itself.

    Parameters
    ----------
    log
        File to which compilation errors are appended.
    """
    sources = _model_files()
    marker, state = CACHE / _digest(str(sources[0])), f"{sources[0]}\n{_state(sources)}"
    if _is_compiled(marker, state):
        yield
        return
    TERMINAL.print("compiling, the first time only: about a minute, longer on a slow machine", style="dim")
    process = guardian.spawn(COMPILE, log=log)
    try:
        yield
        _note(process, marker, state, log)
    finally:
        process.kill()
        process.wait()


def _note(process: subprocess.Popen[bytes], marker: Path, state: str, log: Path) -> None:
    if process.wait():
        _log.warning("loops are not compiled", log=str(log), instead="each worker compiles for itself")
        return
    with suppress(OSError):  # the next start loads them again
        CACHE.mkdir(parents=True, exist_ok=True)
        for other in CACHE.iterdir():
            if not Path(other.read_text().partition("\n")[0]).exists():  # removed since
                other.unlink()
        marker.write_text(state)


def _is_compiled(marker: Path, state: str) -> bool:
    try:
        return marker.read_text() == state
    except OSError:
        return False


def _model_files() -> list[Path]:
    package = find_spec(MODEL)
    assert package is not None
    assert package.submodule_search_locations
    return sorted(Path(package.submodule_search_locations[0]).glob("*.py"))


def _state(sources: list[Path]) -> str:
    """Return what compiled code depends on; the host name represents the CPU."""
    stamps = [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in sources]
    places = os.environ.get("NUMBA_CACHE_DIR", ""), sys.version, platform.node(), version("numba")
    return _digest(repr((stamps, places)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
