"""Whatever goes wrong is one line on standard error, and never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from streamrec.cli import last_resort, topics
from streamrec.cli.app import COMMANDS, main
from streamrec.errors import SettingsError


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("STREAMREC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("STREAMREC_DATA_DIR", str(tmp_path))


def run(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


def command(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "streamrec", *arguments], capture_output=True, check=False, **options)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (PermissionError(13, "Permission denied", "/home/x/.cache"), 2, "/home/x/.cache: Permission denied"),
        (FileExistsError(17, "File exists", "/data"), 2, "/data: File exists"),
        (OSError(30, "Read-only file system", "/home/x"), 2, "/home/x: Read-only file system"),
        (NotADirectoryError(20, "Not a directory", b"/a\xff"), 2, "/a\\udcff: Not a directory"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (OSError(18, "Invalid cross-device link", "/a", None, "/b"), 1, "/a and /b: Invalid cross-device link"),
        (BrokenPipeError(32, "Broken pipe"), 1, "standard output was closed by its reader"),
        (UnicodeEncodeError("utf-8", "s3cret\udcff", 6, 7, "surrogates not allowed"), 2, "not valid UTF-8"),
        (SettingsError("x: \x1b[31mred"), 2, "x: \\x1b[31mred"),
    ],
)
def test_an_error_of_the_system_is_one_line_that_names_the_path(error, code, line, monkeypatch, capsys):
    def fails():
        raise error

    monkeypatch.setattr(topics, "resolved_settings", fails)
    found, out, err = run(["topics"], capsys)

    assert (found, out, err.count("\n")) == (code, "", 1)
    assert line in err
    assert "s3cret" not in err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_misspelt_setting_stops_every_command(name, monkeypatch, capsys):
    monkeypatch.setenv("STREAMREC_TOPK", "5")
    code, out, err = run([name, "x"], capsys)

    assert (code, out) == (2, "")
    assert err == "streamrec: STREAMREC_TOPK: no such setting; the nearest one is STREAMREC_TOP_K\n"


def test_help_is_there_in_spite_of_a_misspelt_setting(monkeypatch, capsys):
    monkeypatch.setenv("STREAMREC_TOPK", "5")

    assert run(["topk", "--help"], capsys)[0] == 0


def test_an_argument_that_is_no_text_is_named(capsys):
    code, out, err = run(["topk", os.fsdecode(b"caf\xe9")], capsys)

    assert (code, out, err) == (2, "", "streamrec: an argument is not UTF-8: caf\\xe9\n")


@pytest.mark.parametrize("arguments", [["topics"], ["replay"], ["up"], ["demo"]])
def test_a_file_as_data_directory_is_one_line(arguments, monkeypatch, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    events = tmp_path / "events.csv"
    events.write_text("user_id,item_id,event_type,timestamp\nu,i,view,1700000000000\n")
    monkeypatch.setenv("STREAMREC_DATA_DIR", str(file))
    arguments = [*arguments, *([str(events)] if arguments == ["replay"] else [])]
    arguments += ["--data-dir", str(file)] if arguments == ["demo"] else []
    code, out, err = run(arguments, capsys)

    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert "streamrec: " in err.splitlines()[-1]


def test_a_reader_that_went_away_and_a_full_disk_are_one_line():
    read, write = os.pipe()
    os.close(read)
    gone = subprocess.run(
        [sys.executable, "-m", "streamrec", "--help"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    with open("/dev/full", "wb") as full:  # noqa: PTH123  # a device
        left = subprocess.run(
            [sys.executable, "-m", "streamrec", "--help"], stdout=full, stderr=subprocess.PIPE, check=False
        )

    assert (gone.returncode, gone.stderr.strip()) == (1, b"")  # as every program does for its help
    assert (left.returncode, left.stderr) == (1, b"streamrec: No space left on device\n")


def test_closed_streams_and_a_terminal_of_ascii_are_no_reason_to_end():
    code = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, '-m', 'streamrec', '--help'])"
    closed = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=False)
    plain = command("nothing\u2026", env=os.environ | {"PYTHONIOENCODING": "ascii"})

    assert (closed.returncode, closed.stderr) == (0, b"")
    assert (plain.returncode, plain.stderr) == (2, b"streamrec: No such command 'nothing\\u2026'.\n")


def test_a_stream_that_is_closed_is_not_taken_by_another_file(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    last_resort.claim_standard_streams()
    with sys.stdin as taken:
        assert taken.read() == ""
