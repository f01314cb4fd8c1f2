"""Checkpoints: directories of safetensors and JSON that are whole or not there.

A checkpoint is written beside its place, flushed to the disk, and renamed into it. A digest of each file tells a
damaged one. Nothing in it can run code.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np
import structlog
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from streamrec.errors import StreamrecError

FORMAT = 2

_PREFIX = "checkpoint-"
_UNFINISHED = ".unfinished-"
_MANIFEST = "manifest.json"
_TENSORS = "tensors.safetensors"
_LOCK = "lock"

_log = structlog.get_logger(__name__)


class Manifest(msgspec.Struct, frozen=True):
    """What a checkpoint holds; the last file that is written."""

    format: int
    digests: dict[str, str]


@contextmanager
def claimed(root: Path) -> Iterator[None]:
    """Wait until no other process has claimed this directory, and keep it until the end: one writes, others stand by.

    The system gives the claim of a process up when that ends, in whatever way.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / _LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("standing by", because=f"another process writes {root}")
            fcntl.flock(lock, fcntl.LOCK_EX)
            _log.info("taking over", path=str(root))
        yield


def numbers(root: Path) -> list[int]:
    """Return the numbers of all checkpoints, oldest first."""
    return sorted(int(path.name.removeprefix(_PREFIX)) for path in root.glob(f"{_PREFIX}*"))


def packed(tensors: Mapping[str, np.ndarray], documents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files of a checkpoint, contents by name; what is learned meanwhile does not change them.

    Parameters
    ----------
    tensors
        Arrays by name.
    documents
        JSON by name.
    """
    contents = {f"{name}.json": document for name, document in documents.items()}
    contents[_TENSORS] = save({name: np.asarray(value, order="C") for name, value in tensors.items()})
    return contents


def write(root: Path, number: int, contents: Mapping[str, bytes], *, kept: Collection[int]) -> Path:
    """Write a checkpoint, and remove those that are not kept.

    Parameters
    ----------
    root
        Directory of all checkpoints; made if it is not there.
    number
        Higher than that of every other checkpoint.
    contents
        The files.
    kept
        Numbers of the older checkpoints that stay.

    Returns
    -------
    Path
        The checkpoint.
    """
    root.mkdir(parents=True, exist_ok=True)
    unfinished = root / f"{_UNFINISHED}{number:09d}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for name, content in contents.items():
        _write(unfinished / name, content)
    manifest = Manifest(FORMAT, {name: _digest(content) for name, content in contents.items()})
    _write(unfinished / _MANIFEST, msgspec.json.encode(manifest))
    path = _path(root, number)
    unfinished.rename(path)
    _flush_directory(root)
    for old in [_path(root, old) for old in numbers(root) if old not in {*kept, number}]:
        shutil.rmtree(old)
    for old in root.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(old)
    _log.info("checkpoint", path=str(path))
    return path


def read(root: Path, number: int) -> tuple[dict[str, np.ndarray], dict[str, bytes]]:
    """Return arrays and documents of a checkpoint.

    Raises
    ------
    StreamrecError
        If it is damaged or of another format; the message says what to do.
    """
    path = _path(root, number)
    try:
        manifest = msgspec.json.decode((path / _MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise _damaged(path, f"{_MANIFEST}: {error}") from None
    if manifest.format != FORMAT:
        raise StreamrecError(
            f"{path} has format {manifest.format}, this version of streamrec reads {FORMAT}: move it away to begin anew"
        )
    contents = {}
    for name, digest in manifest.digests.items():
        try:
            contents[name] = (path / name).read_bytes()
        except OSError as error:
            raise _damaged(path, str(error)) from None
        if _digest(contents[name]) != digest:
            raise _damaged(path, f"{name} is not what was written")
    try:
        tensors = load(contents.pop(_TENSORS))
    except SafetensorError as error:
        raise _damaged(path, str(error)) from None
    return tensors, {name.removesuffix(".json"): content for name, content in contents.items()}


def read_tensors(root: Path, number: int, prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays below a prefix, and read no others.

    Raises
    ------
    StreamrecError
        If they cannot be read.
    """
    path = _path(root, number)
    try:
        with safe_open(path / _TENSORS, framework="numpy") as tensors:
            return {
                name.removeprefix(f"{prefix}."): tensors.get_tensor(name)
                for name in tensors.keys()  # noqa: SIM118  # no mapping
                if name.startswith(f"{prefix}.")
            }
    except (OSError, SafetensorError) as error:
        raise _damaged(path, str(error)) from None


def _path(root: Path, number: int) -> Path:
    return root / f"{_PREFIX}{number:09d}"


def _damaged(path: Path, why: str) -> StreamrecError:
    return StreamrecError(f"{path} is damaged ({why}): move it away to go on from the one before it")


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
