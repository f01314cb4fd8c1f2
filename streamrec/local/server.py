"""Common parts of local servers: process, address, port and shutdown."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamrec.errors import StreamrecError

HOST = "127.0.0.1"

START_TIMEOUT_S = 600.0
"""Start timeout: a crashed server may need long recovery; one that exits is noticed immediately."""

STOP_TIMEOUT_S = 20.0
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Parameters
    ----------
    name
        Name and version.
    address
        Address for clients.
    process
        Process.
    stop_signal
        Signal for a graceful shutdown.
    """

    name: str
    address: str = field(repr=False)  # may contain a password
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals = signal.SIGTERM

    @property
    def port(self) -> int:
        """The port of the address."""
        return int(self.address.rpartition(":")[2].partition("/")[0])

    def stop(self) -> None:
        """Stop it gracefully, or kill it if that takes too long."""
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def choose_port(directory: Path, name: str, *, preferred: int = 0) -> int:
    """Return the server's previous port, else the preferred one, or a free one if that is taken.

    A stable address lets producers and readers reconnect after a restart.

    Parameters
    ----------
    directory
        Directory of `NAME.port`, which stores the port.
    preferred
        Port for the first start, 0 for any free one.
    """
    remembered = directory / f"{name}.port"
    port = _bind(_read_port(remembered) or preferred) or _bind(0)
    remembered.write_text(str(port))
    return port


def is_free(port: int) -> bool:
    """Return whether a port is free."""
    return bool(_bind(port))


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], *, name: str, log: Path) -> None:
    """Wait until a server answers.

    Raises
    ------
    StreamrecError
        If it exited, or does not answer in time; the message includes the end of its log.
    """
    end_s = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None:
            raise StreamrecError(f"{name} exited with code {process.returncode}: {_last_words(log)}")
        if time.monotonic() > end_s:
            process.kill()
            process.wait()
            raise StreamrecError(f"{name} did not answer in {START_TIMEOUT_S:.0f} s: {_last_words(log)}")
        time.sleep(0.05)


def run_to_end(command: Sequence[str | Path], *, what: str, uid: int | None = None) -> None:
    """Run a tool, optionally as another user.

    Raises
    ------
    StreamrecError
        If it fails: `what`, and the tool's output.
    """
    groups: Sequence[int] | None = None if uid is None else []
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, user=uid, group=uid, extra_groups=groups
    )
    if done.returncode:
        raise StreamrecError(f"{what}: {(done.stderr or done.stdout)[-500:]}")


def answers(port: int) -> bool:
    """Return whether a port accepts connections."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _bind(port: int) -> int:
    with socket.socket() as probe:
        # a server that has just exited leaves connections in TIME_WAIT, but its port is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])


def _read_port(file: Path) -> int:
    """Return the port in a file, 0 if there is none."""
    try:
        port = int(file.read_text())
    except (FileNotFoundError, ValueError):  # missing or incomplete
        return 0
    return port if 0 < port <= _MAX_PORT else 0


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-1_000:].strip() or f"nothing in {log}"
