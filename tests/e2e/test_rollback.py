"""A rollback by hand, with the trainer killed around it: the surviving lineage has every event once."""

from __future__ import annotations

import json
import random
import signal

import msgspec
from pipeline import stop
from waiting import DEADLINE_S

from streamrec.adapters.kafka.lag import read_lag
from streamrec.adapters.kafka.model_versions import read_model_versions, roll_back
from streamrec.model.training import checkpoint
from streamrec.service.admission import Admissions

USERS, ITEMS, EVENTS = 200, 60, 3_000


def clicks(seed):
    rng = random.Random(seed)
    for n in range(EVENTS):
        yield {
            "user_id": f"u{rng.randrange(USERS)}",
            "item_id": f"i{int(rng.paretovariate(1.0)) % ITEMS}",
            "event_time_ms": 1_760_000_000_000 + (seed * EVENTS + n) * 1_000,
        }


def kept(pipeline):
    versions = read_model_versions(pipeline.settings.require_kafka())
    return [version for version in versions.versions if version.checkpoint] if versions else []


def wait_until_trained(pipeline):
    pipeline.wait_until_folded()
    trainers = {"streamrec-trainer": ("user-interests",)}  # no other worker that reads them runs here
    pipeline.wait(lambda: not sum(part.lag for part in read_lag(pipeline.settings.require_kafka(), trainers)), "no lag")


def test_rolled_back_and_killed_every_event_is_counted_once(often_saved):
    often_saved.produce("clicks", clicks(0))
    often_saved.start("interests")
    (trainer,) = often_saved.start("trainer")
    directory = often_saved.settings.data_dir / "model"
    often_saved.wait(lambda: checkpoint.numbers(directory), "a checkpoint")
    older = often_saved.wait(lambda: kept(often_saved), "a version")[0]
    wait_until_trained(often_saved)
    often_saved.produce("clicks", clicks(1))
    often_saved.wait(lambda: kept(often_saved)[-1].events > older.events, "a newer version")

    assert roll_back(often_saved.settings.require_kafka(), older.name, within_s=DEADLINE_S).went_on_from == older.name
    stop(trainer, signal.SIGKILL)
    (trainer,) = often_saved.start("trainer")
    wait_until_trained(often_saved)
    often_saved.produce("clicks", clicks(2))
    wait_until_trained(often_saved)
    assert stop(trainer) == 0

    _, documents = checkpoint.read(directory, checkpoint.numbers(directory)[-1])
    waiting = msgspec.json.decode(documents["admissions"], type=Admissions).waiting
    assert json.loads(documents["learning"])["events"] + sum(len(each.new) for each in waiting) == 3 * EVENTS
    versions = read_model_versions(often_saved.settings.require_kafka())
    assert versions.rolled_back == 1
