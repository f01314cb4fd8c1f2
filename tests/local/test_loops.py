"""Loops are compiled once per installation, while servers start."""

from __future__ import annotations

import sys

import pytest
from structlog.testing import capture_logs

from streamrec.local import loops
from streamrec.local.guardian import Guardian
from streamrec.local.loops import compiled_meanwhile

PROGRAM = "import pathlib, sys; path = pathlib.Path(sys.argv[1]); path.write_text(path.read_text() + 'x')"


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Stand in for the compiler: a program that writes how often it ran."""
    runs = tmp_path / "runs"
    runs.write_text("")
    monkeypatch.setattr(loops, "CACHE", tmp_path / "compiled")
    monkeypatch.setattr(loops, "COMPILE", (sys.executable, "-c", PROGRAM, str(runs)))
    return runs


@pytest.fixture
def guardian():
    with Guardian() as guardian:
        yield guardian


def test_loops_are_compiled_once_until_something_changes(compiler, guardian, tmp_path, monkeypatch, capsys):
    for _ in range(2):
        with compiled_meanwhile(guardian, tmp_path / "log"):
            pass
        assert compiler.read_text() == "x"
    assert capsys.readouterr().err.count("the first time only") == 1

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    with compiled_meanwhile(guardian, tmp_path / "log"):
        pass
    assert compiler.read_text() == "xx"


def test_a_failed_compilation_is_reported_and_tried_again(compiler, guardian, tmp_path):
    compiler.unlink()
    for _ in range(2):
        with capture_logs() as lines, compiled_meanwhile(guardian, tmp_path / "log"):
            pass
        assert [line["log_level"] for line in lines] == ["warning"]
    assert (tmp_path / "log").read_text().count("FileNotFoundError") == 2


def test_a_start_that_fails_does_not_wait_for_the_compiler(guardian, tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "CACHE", tmp_path)
    monkeypatch.setattr(loops, "COMPILE", (sys.executable, "-c", "import time; time.sleep(600)"))
    with pytest.raises(KeyboardInterrupt), compiled_meanwhile(guardian, tmp_path / "log"):
        raise KeyboardInterrupt
    assert not list(tmp_path.glob("compiled"))
