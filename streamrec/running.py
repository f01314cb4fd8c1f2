"""Finding the local stack that runs in another terminal, so that commands need no addresses."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from streamrec.errors import StreamrecError
from streamrec.settings import Settings

LOCK = "stack.lock"
"""Lock held by the process that runs a stack on a data directory."""

_FILE = "stack.json"


class _Announced(msgspec.Struct):
    addresses: dict[str, str]
    restarts: dict[str, int] = {}


class Announcement:
    """Announces the addresses of this process's servers in a file readable only by this user.

    Parameters
    ----------
    directory
        The data directory.
    addresses
        Addresses by setting.
    """

    def __init__(self, directory: Path, addresses: Mapping[str, str]) -> None:
        self._file = directory / _FILE
        self._addresses = dict(addresses)
        self.tell({})

    def tell(self, restarts: Mapping[str, int]) -> None:
        """Update the number of restarts of each process."""
        beside = self._file.with_suffix(".new")  # replaced atomically
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"pid": os.getpid(), "addresses": self._addresses, "restarts": dict(restarts)}, file)
        beside.replace(self._file)

    def take_back(self) -> None:
        """Remove the announcement."""
        self._file.unlink(missing_ok=True)


@contextmanager
def announced(directory: Path, addresses: Mapping[str, str]) -> Iterator[Announcement]:
    """Announce servers for as long as this process runs them; it must hold the directory's lock."""
    announcement = Announcement(directory, addresses)
    try:
        yield announcement
    finally:
        announcement.take_back()


def find_running(settings: Settings) -> Settings | None:
    """Return the settings with the addresses of the stack running on their data directory, or `None` without one.

    Addresses that are already set are kept.

    Raises
    ------
    StreamrecError
        If one runs and its announcement cannot be read.
    """
    found = _read(settings.data_dir.expanduser())
    return None if found is None else settings.with_addresses(found.addresses)


def restarts_of(data_dir: Path) -> dict[str, int]:
    """Return the number of restarts of each process of the stack running on a data directory.

    Raises
    ------
    StreamrecError
        If one runs and its announcement cannot be read.
    """
    found = _read(data_dir.expanduser())
    return {} if found is None else found.restarts


def _read(directory: Path) -> _Announced | None:
    file = directory / _FILE
    try:
        content = file.read_bytes()
        if not _is_held(directory / LOCK):
            return None  # it was killed and could not remove its announcement
        return msgspec.json.decode(content, type=_Announced)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise StreamrecError(f"{file} cannot be read ({error}): restart the stack running on {directory}") from None


def _is_held(lock: Path) -> bool:
    """Return whether a process holds a lock; more reliable than process ids, which are reused."""
    descriptor = os.open(lock, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
