"""What all local servers share: a process, an address, a port, and how they end."""

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
"""A server that died may have much to recover; one that ends is noticed at once."""

STOP_TIMEOUT_S = 20.0
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.

    Parameters
    ----------
    name
        What it is, with its version.
    address
        How clients reach it.
    process
        Its process.
    stop_signal
        What makes it end in an orderly way.
    """

    name: str
    address: str = field(repr=False)  # may hold a password
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals = signal.SIGTERM

    @property
    def port(self) -> int:
        """The port in its address."""
        return int(self.address.rpartition(":")[2].partition("/")[0])

    def stop(self) -> None:
        """End it in an orderly way, or by force when it takes too long."""
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def choose_port(directory: Path, name: str, *, preferred: int = 0) -> int:
    """Return the port that a server had the last time, else the preferred one, or a free one if somebody took it.

    An address that stays the same lets producers and readers find the server again after a restart.

    Parameters
    ----------
    directory
        Where `NAME.port` remembers the port.
    preferred
        The port for the first start, 0 for any that is free.
    """
    remembered = directory / f"{name}.port"
    port = _bind(_read_port(remembered) or preferred) or _bind(0)
    remembered.write_text(str(port))
    return port


def is_free(port: int) -> bool:
    """Return whether a server could listen on a port."""
    return bool(_bind(port))


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], *, name: str, log: Path) -> None:
    """Wait until a server answers.

    Raises
    ------
    StreamrecError
        If it ended, or does not answer in time; with the end of its log.
    """
    end_s = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None:
            raise StreamrecError(f"{name} ended with code {process.returncode}: {_last_words(log)}")
        if time.monotonic() > end_s:
            process.kill()
            process.wait()
            raise StreamrecError(f"{name} did not answer in {START_TIMEOUT_S:.0f} s: {_last_words(log)}")
        time.sleep(0.05)


def run_to_end(command: Sequence[str | Path], *, what: str, uid: int | None = None) -> None:
    """Run a tool, as another user if one is given.

    Raises
    ------
    StreamrecError
        If it fails: `what`, and the tool's own words.
    """
    groups: Sequence[int] | None = None if uid is None else []
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, user=uid, group=uid, extra_groups=groups
    )
    if done.returncode:
        raise StreamrecError(f"{what}: {(done.stderr or done.stdout)[-500:]}")


def answers(port: int) -> bool:
    """Return whether something accepts connections."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _bind(port: int) -> int:
    with socket.socket() as probe:
        # a server that ended a moment ago leaves connections that wait; its port is free all the same
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])


def _read_port(file: Path) -> int:
    """Return the port in a file, 0 where there is none."""
    try:
        port = int(file.read_text())
    except (FileNotFoundError, ValueError):  # never written, or not whole
        return 0
    return port if 0 < port <= _MAX_PORT else 0


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-1_000:].strip() or f"nothing in {log}"
