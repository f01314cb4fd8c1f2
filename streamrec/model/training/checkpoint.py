"""Checkpoints: directories of safetensors and JSON, written atomically.

A checkpoint is written under a temporary name, flushed to disk, and renamed. Damage is detected by a digest of each
file. Nothing in it can execute code.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np
import structlog
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from streamrec.errors import StreamrecError
from streamrec.model.training.claim import LOCK

FORMAT = 6
OLDEST_FORMAT = 2
"""Formats up to 5 keep the serving vectors, not their codes. Format 3 does not name the features of the blend, and
keeps the pairs of items elsewhere. Format 2 has fewer features in the blend, too, and does not say to which version the
model was rolled back."""

KEPT_DAMAGED = 2
"""Number of the latest damaged checkpoints to keep for inspection."""

_PREFIX = "checkpoint-"
_UNFINISHED = ".unfinished-"
_DAMAGED = ".damaged"
_NUMBER = re.compile(rf"{_PREFIX}([0-9]{{9}}|[1-9][0-9]{{9,}})")
_OURS = re.compile(rf"{_NUMBER.pattern}({re.escape(_DAMAGED)})?|{re.escape(_UNFINISHED)}[0-9]{{9,}}")
_MANIFEST = "manifest.json"
_TENSORS = "tensors.safetensors"
_OTHERS = {LOCK, "identity"}
"""Other files of the trainer in the directory."""

_DIGEST_BYTES = 16

_log = structlog.get_logger(__name__)


class DamagedCheckpointError(StreamrecError):
    """A checkpoint is damaged."""


class Manifest(msgspec.Struct, frozen=True):
    """Contents of a checkpoint; written as the last file."""

    format: int
    digests: dict[str, str]


def numbers(root: Path) -> list[int]:
    """Return the numbers of all checkpoints, oldest first, by exact name.

    Raises
    ------
    StreamrecError
        If the directory cannot be read.
    """
    found = [_NUMBER.fullmatch(path.name) for path in _entries(root) if path.is_dir()]
    return sorted(int(match[1]) for match in found if match)


def foreign(root: Path) -> list[str]:
    """Return the names of foreign files in the checkpoint directory.

    Raises
    ------
    StreamrecError
        If the directory cannot be read.
    """
    return [
        path.name
        for path in _entries(root)
        if path.name not in _OTHERS and not (_OURS.fullmatch(path.name) and path.is_dir())
    ]


def _entries(root: Path) -> list[Path]:
    try:
        return sorted(root.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StreamrecError(f"{root} cannot be read: {error}") from None


def packed(tensors: Mapping[str, np.ndarray], documents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files of a checkpoint, contents by name, as a snapshot independent of further training.

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
    """Write a checkpoint, and remove those not to be kept.

    Parameters
    ----------
    root
        Directory of all checkpoints; created if missing.
    number
        Higher than any other checkpoint's.
    contents
        The files.
    kept
        Numbers of older checkpoints to keep.

    Returns
    -------
    Path
        The checkpoint.
    """
    root.mkdir(parents=True, exist_ok=True)
    unfinished = root / f"{_UNFINISHED}{number:09d}"
    _remove(unfinished)
    try:
        path = _write_all(root, number, contents, unfinished)
    except OSError:
        _remove(unfinished)  # free the space on a full disk
        raise
    for old in [_path(root, old) for old in numbers(root) if old not in {*kept, number}]:
        _remove(old)
    for old in root.glob(f"{_UNFINISHED}*"):
        _remove(old)
    _log.info("checkpoint", path=str(path))
    return path


def _write_all(root: Path, number: int, contents: Mapping[str, bytes], unfinished: Path) -> Path:
    unfinished.mkdir()
    for name, content in contents.items():
        _write(unfinished / name, content)
    manifest = Manifest(FORMAT, {name: _digest(content) for name, content in contents.items()})
    _write(unfinished / _MANIFEST, msgspec.json.encode(manifest))
    path = _path(root, number)
    unfinished.rename(path)
    _flush_directory(root)
    return path


def set_aside(root: Path, number: int) -> None:
    """Rename a damaged checkpoint, so that it is neither read nor removed."""
    path = _path(root, number)
    aside = path.with_name(path.name + _DAMAGED)
    _remove(aside)
    try:
        path.rename(aside)
    except OSError as error:
        _log.warning("a damaged checkpoint cannot be set aside", path=str(path), because=str(error))
    damaged = [path for path in _entries(root) if path.name.endswith(_DAMAGED) and _OURS.fullmatch(path.name)]
    for old in damaged[:-KEPT_DAMAGED]:
        _remove(old)


def _remove(path: Path) -> None:
    """Remove a directory; failure only costs disk space."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("a directory cannot be removed", path=str(path), because=str(error))


def read(root: Path, number: int) -> tuple[dict[str, np.ndarray], dict[str, bytes]]:
    """Read the arrays and documents of a checkpoint.

    Raises
    ------
    DamagedCheckpointError
        If a digest does not match; the message says what to do.
    StreamrecError
        If it is of another format, or must not be read.
    """
    path = _path(root, number)
    contents = {}
    for name, digest in _digests(path).items():
        contents[name] = _read(path / name)
        if _digest(contents[name]) != digest:
            raise _damaged(path, f"the digest of {name} does not match")
    try:
        tensors = load(contents.pop(_TENSORS))
    except SafetensorError as error:
        raise _damaged(path, str(error)) from None
    return tensors, {name.removesuffix(".json"): content for name, content in contents.items()}


def check(root: Path, number: int) -> None:
    """Verify the digests of a checkpoint's files, without keeping them in memory.

    It raises what :func:`read` raises.
    """
    path = _path(root, number)
    for name, digest in _digests(path).items():
        _check_file(path / name, digest)


def read_tensors(root: Path, number: int, *prefixes: str) -> list[dict[str, np.ndarray]]:
    """Return the arrays below each prefix, without keeping others in memory.

    It raises what :func:`read` raises.
    """
    path = _path(root, number)
    _check_file(path / _TENSORS, _digests(path)[_TENSORS])
    try:
        with safe_open(path / _TENSORS, framework="numpy") as tensors:
            names: list[str] = list(tensors.keys())
            return [
                {
                    name.removeprefix(f"{prefix}."): tensors.get_tensor(name)
                    for name in names
                    if name.startswith(f"{prefix}.")
                }
                for prefix in prefixes
            ]
    except (OSError, SafetensorError) as error:
        raise _damaged(path, str(error)) from None


def _digests(path: Path) -> dict[str, str]:
    """Return the digest of each file."""
    try:
        manifest = msgspec.json.decode(_read(path / _MANIFEST), type=Manifest)
    except msgspec.DecodeError as error:
        raise _damaged(path, f"{_MANIFEST}: {error}") from None
    if not OLDEST_FORMAT <= manifest.format <= FORMAT:
        raise StreamrecError(
            f"{path} has format {manifest.format}, this release reads {OLDEST_FORMAT} to {FORMAT}: "
            "move it away to start from scratch"
        )
    if _TENSORS not in manifest.digests:
        raise _damaged(path, f"{_MANIFEST} does not name {_TENSORS}")
    return manifest.digests


def _read(file: Path) -> bytes:
    with _readable(file):
        return file.read_bytes()


def _check_file(file: Path, digest: str) -> None:
    with _readable(file), file.open("rb") as content:
        found = hashlib.file_digest(content, partial(blake2b, digest_size=_DIGEST_BYTES)).hexdigest()
    if found != digest:
        raise _damaged(file.parent, f"the digest of {file.name} does not match")


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        # it may be intact: using an older one instead would lose what was learned since
        raise StreamrecError(f"{file} is not readable by this user: change its owner or mode") from None
    except OSError as error:
        raise _damaged(file.parent, str(error)) from None


def _path(root: Path, number: int) -> Path:
    return root / f"{_PREFIX}{number:09d}"


def _damaged(path: Path, why: str) -> DamagedCheckpointError:
    return DamagedCheckpointError(f"{path} is damaged ({why}): move it away to continue from the previous one")


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


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
