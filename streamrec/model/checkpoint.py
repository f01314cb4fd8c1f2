"""Checkpoints: directories of safetensors and JSON that are whole or not there.

A checkpoint is written beside its place, flushed to the disk, and renamed into it. A digest of each file tells a
damaged one. Nothing in it can run code.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from streamrec.errors import StreamrecError

FORMAT = 1
KEPT = 3
"""Newest checkpoints that stay."""

_PREFIX = "checkpoint-"
_UNFINISHED = ".unfinished-"
_MANIFEST = "manifest.json"
_TENSORS = "tensors.safetensors"


class Manifest(msgspec.Struct, frozen=True):
    """What a checkpoint holds; the last file that is written."""

    format: int
    digests: dict[str, str]


def write(root: Path, tensors: Mapping[str, np.ndarray], documents: Mapping[str, bytes]) -> Path:
    """Write a checkpoint after the newest one, and remove those beyond the newest `KEPT`.

    Parameters
    ----------
    root
        Directory of all checkpoints; made if it is not there.
    tensors
        Arrays by name.
    documents
        JSON by name.

    Returns
    -------
    Path
        The checkpoint.
    """
    root.mkdir(parents=True, exist_ok=True)
    known = _all(root)
    number = int(known[-1].name.removeprefix(_PREFIX)) + 1 if known else 1
    unfinished = root / f"{_UNFINISHED}{number:09d}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    contents = {f"{name}.json": document for name, document in documents.items()}
    contents[_TENSORS] = save({name: np.asarray(value, order="C") for name, value in tensors.items()})
    for name, content in contents.items():
        _write(unfinished / name, content)
    manifest = Manifest(FORMAT, {name: _digest(content) for name, content in contents.items()})
    _write(unfinished / _MANIFEST, msgspec.json.encode(manifest))
    path = root / f"{_PREFIX}{number:09d}"
    unfinished.rename(path)
    _flush_directory(root)
    for old in [*_all(root)[:-KEPT], *root.glob(f"{_UNFINISHED}*")]:
        shutil.rmtree(old)
    return path


def read_newest(root: Path) -> tuple[dict[str, np.ndarray], dict[str, bytes]] | None:
    """Return arrays and documents of the newest checkpoint, or `None` if there is none.

    Raises
    ------
    StreamrecError
        If it is damaged or of another format; the message says what to do.
    """
    known = _all(root)
    if not known:
        return None
    path = known[-1]
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


def _all(root: Path) -> list[Path]:
    return sorted(root.glob(f"{_PREFIX}*"))


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
