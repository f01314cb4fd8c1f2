"""Where a worker serves its metrics, and how the monitor finds it: through the data directory."""

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
    """Where a worker's metrics are."""

    worker: str
    host: str
    port: int


class _Announced(msgspec.Struct):
    worker: str
    host: str
    port: Annotated[int, msgspec.Meta(gt=0, le=65_535)]


@contextmanager
def exported(settings: Settings, worker: str) -> Iterator[None]:
    """Serve the metrics of this process while it works.

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

    # in a thread: a worker that is told to stop twice must not wait for a reader of metrics
    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    ending.join(1.0)


@contextmanager
def announced(settings: Settings, endpoint: Endpoint) -> Iterator[None]:
    """Say in the data directory where this process can be asked, while it can; other machines are told by settings.

    A directory that is read-only or full costs the local monitor its view of this process, and no more.
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
        with suppress(OSError):  # there is none, or it stays: whoever reads it sees that this process has ended
            file.unlink()


def find_endpoints(settings: Settings) -> list[Endpoint]:
    """Return the endpoints of the workers that run on the data directory, and clear away those of dead ones."""
    found = []
    for file in sorted(_directory(settings).glob("*-*.json")):
        name = _NAME.fullmatch(file.stem)
        if name is None:
            continue  # no worker's
        if not psutil.pid_exists(int(name[1])):
            with suppress(OSError):  # read-only, or gone: it is passed over again
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
        return None  # it has just ended, is being written, or is none of a worker
    return Endpoint(said.worker, said.host, said.port)
