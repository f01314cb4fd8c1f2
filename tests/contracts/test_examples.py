"""Every published example is taken or refused as its place says, by the code and by the JSON Schema alike.

Examples in `tolerated` are not what the schema asks for, and readers take them all the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import NOW_MS
from jsonschema import Draft202012Validator

from streamrec.contracts.decode import _decode, decode_event, decode_impression, decode_item
from streamrec.contracts.schemas import DIRECTORY, MESSAGES, published_files
from streamrec.errors import BadRecordError

EXAMPLES = DIRECTORY / "examples"
TYPES = [*MESSAGES, "dead-letter-headers"]

TOLERANT = ["click", "purchase", "item", "impression"]
"""What users of streamrec produce."""

Decoder = Callable[[bytes, list[str]], object]
"""Takes a record, and takes note of the fields that it leaves out."""

BEYOND_SCHEMA = {"event-time-in-2100.json"}
"""What depends on more than the payload: the time of production."""

KEYWORDS = {
    "missing-field": {"required"},
    "wrong-type": {"type", "anyOf"},
    "unknown-type": {"enum"},
    "bad-value": {"minLength", "maxLength", "pattern", "minimum", "maximum", "enum", "anyOf", "minItems", "maxItems"},
    "bad-time": {"minimum", "type"},
    "envelope": {"required", "type"},
}
"""What a JSON Schema validator calls the reasons for which the decoder refuses."""


def event_decoder(topic: str) -> Decoder:
    return lambda value, dropped: decode_event((topic, 0), 1, NOW_MS, value, {}, dropped=dropped)


def derived_decoder(name: str) -> Decoder:
    decoder = msgspec.json.Decoder(MESSAGES[name])
    return lambda value, _dropped: _decode(decoder, value)


# the headers of a dead letter are written and never read back
DECODERS: dict[str, Decoder] = {
    "click": event_decoder("clicks"),
    "purchase": event_decoder("purchases"),
    "feedback": event_decoder("feedback"),
    "item": lambda value, dropped: decode_item(value, dropped=dropped),
    "impression": lambda value, dropped: decode_impression(value, dropped=dropped),
    "user-interest": derived_decoder("user-interest"),
    "topk-list": derived_decoder("topk-list"),
    "model-update": derived_decoder("model-update"),
    "model-versions": derived_decoder("model-versions"),
    "model-command": derived_decoder("model-command"),
    "store-identity": derived_decoder("store-identity"),
}


def examples(group: str, types: Iterable[str] = TYPES) -> list[Any]:
    paths = [path for name in types for path in sorted((EXAMPLES / name / group).glob("*.json"))]
    return [pytest.param(path, id=f"{path.parts[-3]}-{path.stem}") for path in paths]


def parsed(value: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(value.decode(), parse_constant=refuse)


@pytest.fixture(scope="module")
def validators() -> dict[str, Draft202012Validator]:
    suffix = ".schema.json"
    return {
        name.removesuffix(suffix): Draft202012Validator(json.loads(text))
        for name, text in published_files().items()
        if name.endswith(suffix)
    }


def test_every_type_has_examples_of_both_kinds():
    assert {path.name for path in EXAMPLES.iterdir()} == set(TYPES)
    for name in TOLERANT:
        tolerated = json.loads((EXAMPLES / name / "tolerated.json").read_text())
        assert tolerated.keys() == {path.name for path in (EXAMPLES / name / "tolerated").iterdir()}
    for name in TYPES:
        assert list((EXAMPLES / name / "valid").iterdir())
        reasons = json.loads((EXAMPLES / name / "reasons.json").read_text())
        assert reasons.keys() == {path.name for path in (EXAMPLES / name / "invalid").iterdir()}


@pytest.mark.parametrize("path", examples("valid"))
def test_valid_example_is_taken(path: Path, validators):
    name, value = path.parts[-3], path.read_bytes()
    assert list(validators[name].iter_errors(parsed(value))) == []
    if name in DECODERS:
        dropped: list[str] = []
        assert DECODERS[name](value, dropped) is not None
        assert dropped == []


@pytest.mark.parametrize("path", examples("tolerated", TOLERANT))
def test_tolerated_example_is_taken_without_the_stated_fields(path: Path, validators):
    name, value = path.parts[-3], path.read_bytes()
    stated = json.loads((path.parents[1] / "tolerated.json").read_text())[path.name]
    dropped: list[str] = []
    assert DECODERS[name](value, dropped) is not None
    assert dropped == stated
    with suppress(ValueError):  # NaN is no JSON
        assert list(validators[name].iter_errors(parsed(value))) != []


@pytest.mark.parametrize("path", examples("invalid", DECODERS))
def test_invalid_example_is_refused_by_the_code_for_the_stated_reason(path: Path):
    name, value = path.parts[-3], path.read_bytes()
    reason = json.loads((path.parents[1] / "reasons.json").read_text())[path.name]
    with pytest.raises(BadRecordError) as refused:
        DECODERS[name](value, [])
    assert refused.value.reason == reason


@pytest.mark.parametrize("path", examples("invalid"))
def test_invalid_example_is_refused_by_the_schema_for_the_stated_reason(path: Path, validators):
    name, value = path.parts[-3], path.read_bytes()
    reason = json.loads((path.parents[1] / "reasons.json").read_text())[path.name]
    if reason in {"bad-json", "not-utf8"}:
        with pytest.raises(ValueError, match=r"JSON|decode|delimiter"):
            parsed(value)
        return
    keywords = {error.validator for error in validators[name].iter_errors(parsed(value))}
    if path.name in BEYOND_SCHEMA:
        assert keywords == set()
    else:
        assert keywords
        assert keywords <= KEYWORDS[reason]
