from __future__ import annotations

import sys

import pytest
import structlog

from streamrec import logs


@pytest.fixture(autouse=True)
def own_structlog():
    yield
    structlog.reset_defaults()


def connect(password):
    raise ConnectionError(f"{len(password)} letters")


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("configure", [logs.configure_command, lambda: logs.configure("INFO", worker="interests")])
def test_a_traceback_shows_no_local_variable(configure, is_terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    configure()
    password = "s3" + "cret"
    try:
        connect(password)
    except ConnectionError:
        structlog.get_logger("test").exception("away")

    said = capsys.readouterr().err
    assert "away" in said
    assert "6 letters" in said
    assert password not in said
