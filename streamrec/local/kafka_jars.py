"""Apache Kafka's jars: downloaded from Maven Central once per user, verified by pinned digests before each start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import resources
from pathlib import Path

import jgo
import platformdirs
import requests
from filelock import FileLock
from jgo.maven import PythonResolver
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streamrec.errors import StreamrecError
from streamrec.local.terminal import TERMINAL

VERSION = "4.3.1"
_ENDPOINT = f"org.apache.kafka:kafka_2.13:{VERSION}"
CACHE = platformdirs.user_cache_path("streamrec") / "kafka"
"""Cache of downloaded and prepared files, once per user."""

_MAIN_JAR = f"kafka_2.13-{VERSION}.jar"


Track = Callable[[str, int], AbstractContextManager[Callable[[int], None], bool | None]]


class JarsUnavailableError(StreamrecError):
    """The jars are not cached and cannot be downloaded."""


def fetch_jars(*, progress: bool) -> str:
    """Return the Java class path of the broker, downloading missing jars.

    Raises
    ------
    JarsUnavailableError
        If Maven Central cannot be reached.
    StreamrecError
        If a jar does not match its digest, or there is no cache directory.
    """
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StreamrecError(f"Apache Kafka's jars need a cache: {error}; set XDG_CACHE_HOME") from error
    # jgo's resolver fails if another process fills the cache at the same time
    with FileLock(CACHE / "fetch.lock"), _download_bar(progress) as track:
        try:
            environment = jgo.build(
                _ENDPOINT,
                cache_dir=CACHE,
                resolver=PythonResolver(progress_callback=track),
            )
        except (requests.RequestException, RuntimeError, OSError) as error:
            raise JarsUnavailableError(
                f"Apache Kafka {VERSION} cannot be downloaded from Maven Central: {error}"
            ) from error
    jars = [Path(path) for path in environment.path.glob("*/*.jar")]
    check_jars(jars)
    return ":".join(str(directory / "*") for directory in sorted({jar.parent for jar in jars}))


def check_jars(jars: list[Path]) -> None:
    """Verify jars by the digests that this release was tested with.

    Raises
    ------
    StreamrecError
        If one differs or is unknown, or the broker itself is missing.
    """
    pinned: dict[str, str] = json.loads(resources.files(__package__).joinpath("kafka_jars.json").read_text())
    for jar in jars:
        with jar.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if pinned.get(jar.name) != digest:
            raise StreamrecError(f"{jar} is not the pinned jar (SHA-256 {digest}): delete it, and try again")
    if _MAIN_JAR not in {jar.name for jar in jars}:
        raise StreamrecError(f"{_MAIN_JAR} is missing in the jar cache")


@contextmanager
def _download_bar(visible: bool) -> Iterator[Track]:
    bar = Progress(
        TextColumn("Apache Kafka {task.fields[jar]}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=TERMINAL,
        disable=not visible,
        transient=True,
    )
    with bar:
        task = bar.add_task("fetch", total=0, jar="", visible=False)

        @contextmanager
        def track(filename: str, size: int) -> Iterator[Callable[[int], None]]:
            total = bar.tasks[task].total or 0
            bar.update(task, total=total + size, jar=filename, visible=True)
            yield lambda count: bar.advance(task, count)

        yield track
