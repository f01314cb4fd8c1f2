"""The table of all settings in the documentation: `python -m streamrec.settings_table [--check]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from streamrec.environment import variable_name
from streamrec.settings import Settings

FILE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

_HEAD = """\
# Settings

Environment variables of every command and worker, generated from `streamrec/settings.py` (`make settings`). An empty
variable counts as one that is not set; one that begins with `STREAMREC_` and is not in this table is an error.

| variable | values | default | meaning | example |
|---|---|---|---|---|
"""

_BOUNDS = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))

_TYPES = {"boolean": "`true`, `false`", "integer": "integer", "number": "number", "string": "text"}

_FORMATS = {"path": "path", "password": "text, never shown"}


def table() -> str:
    """Return the page, in the order of the settings."""
    properties = Settings.model_json_schema()["properties"]
    return _HEAD + "".join(_row(field, schema) for field, schema in properties.items())


def _row(field: str, schema: dict[str, Any]) -> str:
    description = schema["description"]
    cells = (
        f"`{variable_name(field)}`",
        _values(schema),
        _code(schema.get("default")),
        description,
        f"`{schema['examples'][0]}`",
    )
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def _values(schema: dict[str, Any]) -> str:
    """Return what a setting may be: its alternatives, or its type and bounds."""
    kind = next((each for each in schema.get("anyOf", ()) if each.get("type") != "null"), schema)
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    bounds = " and ".join(f"{sign} {kind[name]}" for name, sign in _BOUNDS if name in kind)
    return f"{_FORMATS.get(kind.get('format', ''), _TYPES[kind['type']])} {bounds}".rstrip()


def _code(default: object) -> str:
    """Return a default as it would be written in the environment; nothing where there is none."""
    if default is None or default == "":
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(prog="python -m streamrec.settings_table", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is outdated")
    parser.add_argument("--file", type=Path, default=FILE, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if not options.check:
        options.file.write_text(table())
        return 0
    current = options.file.exists() and options.file.read_text() == table()
    if not current:
        sys.stderr.write(f"{options.file.name} differs from the settings: run `make settings`\n")
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())
