"""Settings of an evaluation from a TOML or JSON file."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from streamrec.errors import UsageError

T = TypeVar("T")

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", help="A TOML or JSON file; missing keys have their defaults.")
]


def read_settings(path: Path | None, kind: type[T]) -> T:
    """Return the settings in a file, or the defaults.

    Raises
    ------
    UsageError
        If the file cannot be read, has an unknown key, or an invalid value.
    """
    if path is None:
        return kind()
    try:
        raw = path.read_bytes()
        values: Any = json.loads(raw) if path.suffix == ".json" else tomllib.loads(raw.decode())
        _refuse_unknown(values, kind)
        return msgspec.convert(values, kind)
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: {error}") from error


def _refuse_unknown(values: object, kind: type) -> None:
    """Refuse unknown keys: a misspelt setting would have no effect."""
    if not isinstance(values, dict):
        return
    known = {field.name: field for field in fields(kind)}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"unknown setting {name}; choose from {', '.join(known)}")
        inner = known[name].default_factory
        if isinstance(inner, type) and is_dataclass(inner):
            _refuse_unknown(value, inner)
