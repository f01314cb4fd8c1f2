"""A user's error is one line on standard error and exit code 2."""

from __future__ import annotations

import subprocess
import sys

import pytest

from streamrec import __version__
from streamrec.cli.app import COMMANDS, main


@pytest.fixture(autouse=True)
def no_servers(monkeypatch, tmp_path):
    for name in ("KAFKA", "REDIS_URL", "POSTGRES_URL"):
        monkeypatch.delenv(f"STREAMREC_{name}", raising=False)
    monkeypatch.setenv("STREAMREC_DATA_DIR", str(tmp_path))


def run(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["topk"], "Missing argument"),
        (["topk", "u1", "--loud"], "No such option: --loud"),
        (["topk", "u1"], "STREAMREC_REDIS_URL is not set"),
        (["lag"], "STREAMREC_KAFKA is not set"),
        (["lag", "--watch", "--json"], "STREAMREC_KAFKA is not set"),
        (["status"], "STREAMREC_KAFKA is not set"),
        (["worker", "monitor"], "STREAMREC_KAFKA is not set"),
        (["topics"], "STREAMREC_KAFKA is not set"),
        (["topics", "create"], "STREAMREC_KAFKA is not set"),
        (["dlq", "list"], "STREAMREC_KAFKA is not set"),
        (["retention"], "STREAMREC_POSTGRES_URL is not set"),
        (["worker", "nobody"], "choose from interests, trainer, recall, retention, monitor"),
        (["replay", "nowhere.parquet"], "no such file"),
        (["replay", "f", "--rate", "1", "--speedup", "2"], "cannot be combined"),
        (["demo", "--attach", "--serve"], "nothing is started here"),
        (["replay", "f", "--rate", "fast"], "valid number"),
        (["replay", "f", "--limit", "0"], "greater than or equal to 1"),
        (["demo", "--data", "nowhere.parquet"], "no such file"),
    ],
)
def test_a_users_error_is_one_line(arguments, message, capsys):
    code, out, err = run(arguments, capsys)

    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_a_wrong_setting_is_one_line_that_names_it(monkeypatch, capsys):
    monkeypatch.setenv("STREAMREC_TOP_K", "many")
    code, out, err = run(["lag"], capsys)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "STREAMREC_TOP_K" in err


def test_a_broker_that_does_not_answer_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("STREAMREC_REDIS_URL", "redis://127.0.0.1:1/0")
    code, out, err = run(["topk", "u1"], capsys)

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("streamrec: Redis")


def test_the_module_is_the_command():
    finished = subprocess.run(
        [sys.executable, "-m", "streamrec", "nothing"], capture_output=True, text=True, check=False
    )

    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr == "streamrec: No such command 'nothing'.\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name, capsys):
    code, out, _ = run([name, "--help"], capsys)

    assert code == 0
    assert f"streamrec {name}" in out


def test_help_names_all_commands_and_imports_none(capsys):
    code, out, _ = run(["--help"], capsys)
    check = "import sys; from streamrec.cli.app import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    check += "sys.exit(' '.join({'torch', 'faust', 'pyarrow', 'sqlalchemy', 'confluent_kafka'} & sys.modules.keys()))"
    finished = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)

    assert code == 0
    assert [name for name in COMMANDS if f" {name} " in out] == list(COMMANDS)
    assert finished.stderr.strip() == ""


def test_the_version_needs_nothing_else(capsys):
    assert run(["--version"], capsys) == (0, f"streamrec {__version__}\n", "")
