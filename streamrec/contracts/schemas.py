"""The published contract in `schemas/`, generated from the message types.

`python -m streamrec.contracts.schemas` writes it; with `--check` it exits with 1 if the files differ from the types.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from streamrec.contracts.asyncapi import asyncapi_document
from streamrec.contracts.derived import TopKList, UserInterest
from streamrec.contracts.headers import DeadLetterHeaders
from streamrec.contracts.incoming import Click, Feedback, Impression, Item, Purchase
from streamrec.contracts.listed_items import ListedItems
from streamrec.contracts.model_update import ModelUpdate
from streamrec.contracts.model_version import ModelCommand, ModelVersion, ModelVersions
from streamrec.contracts.store_identity import StoreIdentity

DIRECTORY = Path(__file__).parents[2] / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

MESSAGES: Mapping[str, type[msgspec.Struct]] = {
    "click": Click,
    "purchase": Purchase,
    "feedback": Feedback,
    "item": Item,
    "impression": Impression,
    "user-interest": UserInterest,
    "topk-list": TopKList,
    "model-update": ModelUpdate,
    "model-versions": ModelVersions,
    "model-command": ModelCommand,
    "store-identity": StoreIdentity,
}
"""Message types by the name of their files."""

_NESTED: tuple[type[msgspec.Struct], ...] = (ListedItems, ModelVersion)


def published_files() -> dict[str, str]:
    """Return the content of `schemas/`, by file name."""
    documents: dict[str, Any] = {f"{name}.schema.json": _message_schema(message) for name, message in MESSAGES.items()}
    documents["dead-letter-headers.schema.json"] = _header_schema()
    documents["asyncapi.json"] = asyncapi_document()
    return {
        name: msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"
        for name, document in documents.items()
    }


def _message_schema(message: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the self-contained JSON Schema of a message."""
    _, components = msgspec.json.schema_components([message], ref_template="#/$defs/{name}")
    for struct in (message, *_NESTED):
        if struct.__name__ in components:
            _describe_fields(components[struct.__name__]["properties"], struct)
    schema = {"$schema": DIALECT, **components.pop(message.__name__)}
    return schema | {"$defs": components} if components else schema


def _header_schema() -> dict[str, Any]:
    """Return the JSON Schema of a dead letter's headers on the wire: text, with decimal numbers."""
    schema = _message_schema(DeadLetterHeaders)
    for name, field in schema["properties"].items():
        if field["type"] == "integer":
            schema["properties"][name] = field | {"type": "string", "pattern": "^[0-9]+$"}
        schema["properties"][name].pop("default", None)  # absent headers have no default on the wire
    schema["properties"] = {f"dlq.{name}": field for name, field in schema["properties"].items()}
    schema["required"] = [f"dlq.{name}" for name in schema["required"]]
    schema["description"] = inspect.cleandoc(schema["description"])
    return schema


def _describe_fields(properties: dict[str, Any], struct: type[msgspec.Struct]) -> None:
    """Use the docstrings below a struct's fields as descriptions: msgspec reads only those in annotations."""
    (definition,) = ast.parse(inspect.getsource(struct)).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in pairwise(definition.body):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str() as text)),
            ):
                of_type = properties[name].get("description", "")
                properties[name]["description"] = f"{inspect.cleandoc(text)} {of_type}".rstrip()


def differing_files(directory: Path) -> list[str]:
    """Return the names of files that are missing, changed, or not generated from a type, sorted."""
    expected = published_files()
    found = {path.name: path.read_text() for path in directory.glob("*.json")}
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(prog="python -m streamrec.contracts.schemas", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file differs")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="default: %(default)s")
    options = parser.parse_args(arguments)
    differing = differing_files(options.directory)
    if options.check:
        sys.stderr.writelines(f"{name} differs from the message types\n" for name in differing)
        return 1 if differing else 0
    expected = published_files()
    options.directory.mkdir(parents=True, exist_ok=True)
    for name in differing:
        if name in expected:
            (options.directory / name).write_text(expected[name])
        else:
            (options.directory / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
