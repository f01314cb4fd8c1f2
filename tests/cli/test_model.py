"""`streamrec model` on a real broker, with a stand-in for the trainer."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import uuid4

import msgspec
import pytest

from streamrec.adapters.kafka import BroadcastReader, KafkaPublisher
from streamrec.cli import model
from streamrec.cli.app import main
from streamrec.contracts.model_version import ModelCommand, ModelVersion, ModelVersions
from streamrec.contracts.topics import MODEL_CONTROL, MODEL_VERSIONS
from streamrec.service.ports import Outgoing

NOON_MS = 1_700_000_000_000


def version(name, status, *, checkpoint=0, **fields):
    return ModelVersion(
        **{"made_at_ms": NOON_MS, "events": 1_234, "loss": 3.5, "went_on_from": "", "because": ""} | fields,
        name=name,
        status=status,
        checkpoint=checkpoint,
    )


def tell(bootstrap, *versions, rolled_back=0):
    record = ModelVersions(versions=list(versions), refused=1, rolled_back=rolled_back, drifts=0)
    KafkaPublisher(bootstrap).publish([Outgoing(MODEL_VERSIONS, b"versions", msgspec.json.encode(record))])


@pytest.fixture
def told(kafka, monkeypatch):
    """Publish a list of versions, and return a prefix of their names that no other test has."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("STREAMREC_KAFKA", kafka.bootstrap)
    prefix = uuid4().hex[:8]
    tell(
        kafka,
        version(f"{prefix}-1", "good", checkpoint=4),
        version(f"{prefix}-2", "refused", loss=None, because="vectors are [bold] not finite"),
        version(f"{prefix}-3", "serving", checkpoint=5, went_on_from=f"{prefix}-1"),
    )
    return prefix


def run(arguments, capsys, *, code=0):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    captured = capsys.readouterr()
    assert exit_info.value.code == code, captured.err
    return captured.out or captured.err


def test_list_shows_every_version_with_its_status(told, capsys):
    table = run(["model", "list"], capsys)
    document = json.loads(run(["model", "list", "--json"], capsys))

    assert all(
        word in table for word in (f"{told}-1", "good", "refused", "[bold]", f"rolled back to {told}-1", "1,234")
    )
    assert [entry["status"] for entry in document["versions"]] == ["good", "refused", "serving"]
    assert document["refused"] == 1


@pytest.mark.parametrize(("number", "why"), [("2", "no longer has a checkpoint"), ("7", "unknown version")])
def test_a_rollback_to_what_is_not_kept_is_a_users_error(told, capsys, number, why):
    words = run(["model", "rollback", f"{told}-{number}"], capsys, code=2)

    assert why in words
    assert words.count("\n") == 1


def test_a_rollback_waits_for_the_trainer_and_names_what_it_goes_on_as(kafka, told, capsys):
    good, made = f"{told}-1", f"{told}-4"

    def obey():
        with closing(BroadcastReader(kafka=kafka, topics=[MODEL_CONTROL])) as reader:
            while True:
                for _, record in reader.poll(0.1) or ():
                    if msgspec.json.decode(record.value, type=ModelCommand).roll_back_to == good:
                        kept = version(made, "serving", checkpoint=6, went_on_from=good)
                        tell(kafka, version(good, "good", checkpoint=4), kept, rolled_back=1)
                        return

    with ThreadPoolExecutor() as pool:
        obeyed = pool.submit(obey)
        assert made in run(["model", "rollback", good], capsys)
        obeyed.result()


def test_a_trainer_that_does_not_run_is_one_line(told, capsys, monkeypatch):
    monkeypatch.setattr(model, "ANSWER_WITHIN_S", 0.5)
    words = run(["model", "rollback", f"{told}-3"], capsys, code=1)

    assert "as soon as it runs" in words
    assert words.count("\n") == 1
