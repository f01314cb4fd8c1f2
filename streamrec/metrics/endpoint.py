"""Metrics endpoints of workers, which the monitor discovers through the data directory."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import psutil
import structlog
from prometheus_client import start_http_server

from streamrec.environment import variable_name
from streamrec.errors import StreamrecError
from streamrec.settings import Settings

_DIRECTORY = "metrics"
_NAME = re.compile(r".+-([0-9]{1,7})")
"""Worker and process id."""

_log = structlog.get_logger(__name__)


class Endpoint(NamedTuple):
    """Metrics endpoint of a worker."""

    worker: str
    host: str
    port: int


class _Announced(msgspec.Struct):
    worker: str
    host: str
    port: Annotated[int, msgspec.Meta(gt=0, le=65_535)]


@contextmanager
def exported(settings: Settings, worker: str) -> Iterator[None]:
    """Serve the metrics of this process while the context is active.

    Raises
    ------
    StreamrecError
        If the port is taken.
    """
    try:
        server, _ = start_http_server(settings.metrics_port, settings.metrics_host)
    except OSError as error:
        raise StreamrecError(
            f"metrics cannot be served on {settings.metrics_host}:{settings.metrics_port} ({error.strerror}); "
            f"set {variable_name('metrics_port')} to another port"
        ) from error
    with announced(settings, Endpoint(worker, settings.metrics_host, server.server_port)):
        yield

    def end() -> None:
        server.shutdown()
        server.server_close()

    # in a thread: a worker that is told to stop twice must not wait for a metrics client
    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    ending.join(1.0)


@contextmanager
def announced(settings: Settings, endpoint: Endpoint) -> Iterator[None]:
    """Announce the endpoint of this process in the data directory; other machines use settings.

    If the directory is read-only or full, only the local monitor cannot see this process.
    """
    file = _directory(settings) / f"{endpoint.worker}-{os.getpid()}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.encode(_Announced(endpoint.worker, endpoint.host, endpoint.port)))
    except OSError as error:
        _log.warning("metrics are not announced", because=str(error))
    try:
        yield
    finally:
        with suppress(OSError):  # missing, or left behind: readers check whether the process still runs
            file.unlink()


def find_endpoints(settings: Settings) -> list[Endpoint]:
    """Return the endpoints of the workers running on the data directory, and remove those of dead ones."""
    found = []
    for file in sorted(_directory(settings).glob("*-*.json")):
        name = _NAME.fullmatch(file.stem)
        if name is None:
            continue  # not a worker's
        if not psutil.pid_exists(int(name[1])):
            with suppress(OSError):  # read-only, or already removed
                file.unlink()
            continue
        found.append(_read(file))
    return [endpoint for endpoint in found if endpoint is not None]


def _directory(settings: Settings) -> Path:
    return settings.data_dir.expanduser() / settings.installation / _DIRECTORY


def _read(file: Path) -> Endpoint | None:
    try:
        said = msgspec.json.decode(file.read_bytes(), type=_Announced)
    except (OSError, msgspec.DecodeError):
        return None  # it has just ended, is being written, or is not a worker's
    return Endpoint(said.worker, said.host, said.port)
