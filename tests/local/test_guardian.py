"""What a guardian looks after: processes end with their parent, and logs neither block anybody nor grow without end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
from waiting import wait

from streamrec.local.guardian import Guardian

BEYOND_A_PIPE = 64 * 1024

SPEAKER = """
import sys
for number in range(4_000):
    print(f"line {number:06d} " + "x" * 80, flush=True)
open(sys.argv[1], "w").close()
import time
time.sleep(600)
"""

PARENT = """
import signal, sys
from pathlib import Path
from streamrec.local.guardian import Guardian
with Guardian() as guardian:
    guardian.spawn([sys.executable, "-c", sys.argv[1], sys.argv[2]], log=Path(sys.argv[3]))
    print("started", flush=True)
    signal.pause()
"""


@pytest.fixture
def guardian():
    with Guardian(max_log_bytes=50_000) as running:
        yield running


def test_a_parent_that_is_stopped_blocks_no_log_line(tmp_path):
    done, log = tmp_path / "done", tmp_path / "speaker.log"
    waits = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, waits + SPEAKER, str(done), str(log)], stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout.readline() == b"started\n"
        parent.send_signal(signal.SIGSTOP)
        (tmp_path / "go").touch()
        wait(done.exists, "all lines to be written")
        assert log.stat().st_size > BEYOND_A_PIPE
    finally:
        parent.send_signal(signal.SIGCONT)
        parent.kill()
        parent.communicate()


def test_no_process_is_in_the_session_that_the_terminal_stops(tmp_path, guardian):
    process = guardian.spawn([sys.executable, "-c", "import time; time.sleep(600)"], log=tmp_path / "a.log")

    try:
        assert os.getsid(process.pid) == process.pid
        assert os.getsid(guardian._process.pid) == guardian._process.pid
    finally:
        process.kill()
        process.wait()


def test_a_log_is_bounded_while_its_writer_keeps_it_open(tmp_path, guardian):
    log = tmp_path / "speaker.log"
    process = guardian.spawn([sys.executable, "-c", SPEAKER, str(tmp_path / "done")], log=log)
    wait((tmp_path / "done").exists, "all lines to be written")
    wait(lambda: log.stat().st_size < 50_000, "the log to be set aside")

    older = (tmp_path / "speaker.log.1").read_text().splitlines()
    assert older[-1].startswith("line 0")
    assert sorted(path.name for path in tmp_path.glob("*.log*")) == ["speaker.log", "speaker.log.1"]
    process.kill()
    process.wait()


def test_a_log_whose_older_lines_cannot_be_kept_is_bounded_all_the_same(tmp_path, guardian):
    log = tmp_path / "speaker.log"
    (tmp_path / "speaker.log.1").mkdir()
    process = guardian.spawn([sys.executable, "-c", SPEAKER, str(tmp_path / "done")], log=log)
    wait((tmp_path / "done").exists, "all lines to be written")
    wait(lambda: log.stat().st_size < 50_000, "the log to be emptied")
    process.kill()
    process.wait()


def test_what_an_interpreter_says_when_it_crashes_is_in_the_log(tmp_path, guardian):
    log = tmp_path / "crash.log"
    guardian.spawn([sys.executable, "-X", "faulthandler", "-c", "import os; os.abort()"], log=log).wait()

    assert "Aborted" in log.read_text()


def test_lines_of_an_earlier_process_stay(tmp_path, guardian):
    log = tmp_path / "two.log"
    for word in ("first", "second"):
        guardian.spawn([sys.executable, "-c", f"print({word!r})"], log=log).wait()

    assert log.read_text() == "first\nsecond\n"


def test_nothing_runs_that_a_guardian_who_died_does_not_know_of(tmp_path):
    alive = tmp_path / "alive"
    with Guardian() as guardian:
        guardian._process.kill()
        guardian._process.wait()
        with pytest.raises(BrokenPipeError):
            guardian.spawn([sys.executable, "-c", "import time; time.sleep(600)", alive], log=tmp_path / "log")
    assert not [child for child in psutil.Process().children() if str(alive) in " ".join(child.cmdline())]
