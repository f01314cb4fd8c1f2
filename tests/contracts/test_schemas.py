"""What is published in `schemas/` follows from the types and is valid by the standards it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from streamrec.contracts.schemas import DIRECTORY, differing_files, main, published_files
from streamrec.contracts.topics import TOPICS

ASYNCAPI_SCHEMA = Path(__file__).with_name("asyncapi-3.0.0.json")
"""The official one, `schemas/3.0.0.json` of the npm package `@asyncapi/specs` 6.11.1 (Apache-2.0), without spaces."""

SCHEMAS = sorted(DIRECTORY.glob("*.schema.json"))


@pytest.fixture
def asyncapi():
    return json.loads((DIRECTORY / "asyncapi.json").read_text())


def test_published_files_follow_from_the_types():
    assert differing_files(DIRECTORY) == []


def test_check_finds_a_changed_a_missing_and_a_stale_file(tmp_path, capsys):
    assert main(["--directory", str(tmp_path)]) == 0
    assert main(["--directory", str(tmp_path), "--check"]) == 0
    (tmp_path / "click.schema.json").write_text("{}")
    (tmp_path / "item.schema.json").unlink()
    (tmp_path / "stale.schema.json").write_text("{}")

    assert main(["--directory", str(tmp_path), "--check"]) == 1
    named = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
    assert named == ["click.schema.json", "item.schema.json", "stale.schema.json"]

    assert main(["--directory", str(tmp_path)]) == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == published_files()


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_schema_is_valid_and_describes_itself(path):
    schema = json.loads(path.read_text())
    Draft202012Validator.check_schema(schema)
    assert schema["description"]
    assert schema["required"]


def test_strings_below_fields_become_descriptions():
    schema = json.loads((DIRECTORY / "topk-list.schema.json").read_text())
    assert schema["properties"]["model_version"]["description"] == "Empty before the first model."
    assert schema["$defs"]["ListedItems"]["properties"]["leads"]["description"] == "Items in the user's history."


def test_asyncapi_document_is_valid(asyncapi):
    official = json.loads(ASYNCAPI_SCHEMA.read_text())
    assert [error.message for error in Draft7Validator(official).iter_errors(asyncapi)] == []


def test_official_schema_refuses_a_broken_document(asyncapi):
    official = json.loads(ASYNCAPI_SCHEMA.read_text())
    asyncapi["operations"]["receive-clicks"]["action"] = "publish"
    assert not Draft7Validator(official).is_valid(asyncapi)


def test_asyncapi_document_has_every_topic_and_every_reference_leads_somewhere(asyncapi):
    assert asyncapi["channels"].keys() == {topic.name for topic in TOPICS}
    references = [node["$ref"] for node in objects(asyncapi) if "$ref" in node]
    assert references
    for reference in references:
        if reference.startswith("./"):
            assert (DIRECTORY / reference).is_file()
        else:
            node = asyncapi
            for step in reference.removeprefix("#/").split("/"):
                node = node[step]


def test_asyncapi_says_who_sends_what(asyncapi):
    actions = {operation["channel"]["$ref"]: operation["action"] for operation in asyncapi["operations"].values()}
    received = {reference.split("/")[-1] for reference, action in actions.items() if action == "receive"}
    assert received == {"clicks", "purchases", "feedback", "items", "impressions", "model-control"}
    assert len(actions) == len(TOPICS)


def objects(node):
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from objects(child)
