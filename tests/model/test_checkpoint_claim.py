"""One trainer at a time writes a directory of checkpoints."""

from __future__ import annotations

import subprocess
import sys
import threading

from streamrec.model.training.claim import claimed

HOLDER = """
import signal, sys
from pathlib import Path
from streamrec.model.training.claim import claimed
with claimed(Path(sys.argv[1])):
    print("claimed", flush=True)
    signal.pause()
"""


def claim_in_a_thread(directory):
    claims = threading.Event()

    def claim():
        with claimed(directory):
            claims.set()

    threading.Thread(target=claim).start()
    return claims


def test_a_second_trainer_stands_by_until_the_first_has_ended(tmp_path):
    with claimed(tmp_path / "model"):
        second = claim_in_a_thread(tmp_path / "model")
        assert not second.wait(0.2)
    assert second.wait(30)


def test_a_killed_trainer_has_no_claim_left(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"claimed\n"
    second = claim_in_a_thread(tmp_path)
    assert not second.wait(0.2)

    holder.kill()
    holder.communicate()

    assert second.wait(30)
