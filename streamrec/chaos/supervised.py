"""A supervisor that a chaos run can suspend as Ctrl-Z would: `python -m streamrec.chaos.supervised WORKER LOGS`.

It keeps one worker running as `streamrec up` does, until SIGTERM.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from streamrec.local import Stack, Supervisor
from streamrec.local.guardian import Guardian
from streamrec.local.stack import EXTERNAL
from streamrec.running import Announcement
from streamrec.settings import Settings


class ChaosSupervisor(Supervisor):
    """Supervises workers that treat marked records as unreadable, as the other ones of the run do."""

    def command(self, worker: str) -> list[str]:
        """Return the command that runs a worker without an injected crash."""
        return [sys.executable, "-m", "streamrec.chaos.worker", worker, "", "1"]


def main(worker: str, logs: str) -> None:
    """Keep the worker running."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    settings, directory = Settings.from_env(), Path(logs)
    directory.mkdir(parents=True, exist_ok=True)
    with Guardian() as guardian:
        stack = Stack(settings, EXTERNAL, {}, guardian, Announcement(directory, {}), {})
        with ChaosSupervisor(stack, directory, (worker,)):
            signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main(*sys.argv[1:])
