"""Events are admitted once, trained soon after, and told of in versions and checkpoints."""

from __future__ import annotations

import msgspec
import pytest
from builders import batch, part
from doubles import MemoryPublisher
from interests import stream
from remembering_trainer import SOURCE, RememberingTrainer, records

from streamrec.contracts.model_version import ModelVersions
from streamrec.contracts.topics import ITEMS, MODEL_UPDATES, MODEL_VERSIONS, USER_INTERESTS
from streamrec.errors import TransientError
from streamrec.service import admission
from streamrec.service.batch import Slice
from streamrec.service.train_on_interests import TrainOnInterests


def test_an_event_is_admitted_once_however_often_it_comes(training):
    trainer = RememberingTrainer()
    use_case = training(trainer)
    values = records(stream(20))
    assert use_case.handle(batch(part(USER_INTERESTS, values))) == {SOURCE: 20}
    assert use_case.waiting == 20
    use_case.step()
    # after a crash `interests` sends its records again, at new offsets
    use_case.handle(batch(part(USER_INTERESTS, values, start=20)))
    use_case.step()
    assert use_case.waiting == 0
    assert len(trainer.trained) == len(set(trainer.trained)) == 20


def test_a_trainer_that_knows_nothing_sends_the_reader_back(training):
    trainer = RememberingTrainer()
    use_case = training(trainer)
    assert use_case.handle(batch(part(USER_INTERESTS, records(stream(5)), start=5))) == {SOURCE: 0}
    use_case.step()
    assert trainer.trained == []


def test_killed_at_any_moment_the_surviving_lineage_has_every_event_once(training):
    values = records(stream(60))
    trainer = RememberingTrainer()
    use_case = training(trainer)
    use_case.handle(batch(part(USER_INTERESTS, values[:20])))
    use_case.step()
    use_case.handle(batch(part(USER_INTERESTS, values[20:30], start=20)))
    use_case.checkpoint()  # ten are admitted and not trained
    use_case.handle(batch(part(USER_INTERESTS, values[30:50], start=30)))
    use_case.step()
    survivor = RememberingTrainer(trainer.saved)
    use_case = training(survivor)
    assert use_case.positions([SOURCE]) == {SOURCE: 30}
    assert use_case.waiting == 10
    use_case.handle(batch(part(USER_INTERESTS, values[30:], start=30)))
    use_case.step()
    assert len(survivor.trained) == len(set(survivor.trained)) == 60


def test_checkpoints_come_by_the_clock_and_only_with_something_new(training, clock):
    trainer = RememberingTrainer()
    use_case = training(trainer)
    use_case.handle(batch(part(USER_INTERESTS, records(stream(5)))))
    use_case.step()
    assert trainer.saved is None
    clock[0] = 31.0
    use_case.step()
    assert trainer.saving is not None
    trainer.wait_until_saved()
    clock[0] = 90.0
    use_case.step()
    assert trainer.saving is None


def test_what_came_before_a_quiet_time_is_saved_in_it(training, clock):
    trainer = RememberingTrainer()
    use_case = training(trainer)
    use_case.handle(batch(part(USER_INTERESTS, records(stream(5)))))
    use_case.step()
    assert not use_case.must_step
    clock[0] = 31.0
    assert use_case.must_step
    use_case.step()
    assert trainer.saving is not None
    assert not use_case.must_step


def test_an_update_that_was_not_acknowledged_goes_out_with_the_next_step(training):
    trainer, publisher = RememberingTrainer(), MemoryPublisher()
    use_case = training(trainer, publisher)
    use_case.handle(batch(part(USER_INTERESTS, records(stream(5)))))
    publisher.failures = 1
    with pytest.raises(TransientError):
        use_case.step()
    use_case.step()
    assert [record.value for record in publisher.of(MODEL_UPDATES)] == [b"5"]
    assert len(trainer.trained) == 5


def test_a_step_is_bounded_and_knows_what_waits_behind(training, monkeypatch):
    monkeypatch.setattr(admission, "MAX_STEP_EVENTS", 8)
    trainer = RememberingTrainer()
    use_case = training(trainer)
    use_case.handle(batch(part(USER_INTERESTS, records(stream(20)))))
    for _ in range(3):
        use_case.step()
    assert trainer.behind == [12, 4, 0]
    assert len(trainer.trained) == 20


def test_too_many_waiting_events_hold_the_reader_back(training, monkeypatch):
    monkeypatch.setattr(admission, "MAX_WAITING_EVENTS", 8)
    use_case = training(RememberingTrainer())
    use_case.handle(batch(part(USER_INTERESTS, records(stream(10)))))
    with pytest.raises(TransientError):
        use_case.handle(batch(part(USER_INTERESTS, records(stream(10, first_offset=10)), start=10)))
    use_case.step()
    use_case.handle(batch(part(USER_INTERESTS, records(stream(10, first_offset=10)), start=10)))
    assert use_case.waiting == 10


def test_the_list_of_versions_is_published_when_it_changes(training):
    trainer, publisher = RememberingTrainer(), MemoryPublisher()
    use_case = training(trainer, publisher)
    use_case.step()
    use_case.step()
    assert len(publisher.of(MODEL_VERSIONS)) == 1
    trainer.versions = msgspec.structs.replace(trainer.versions, drifts=1)
    publisher.failures = 1
    with pytest.raises(TransientError):
        use_case.step()
    use_case.step()
    (_, newest) = publisher.of(MODEL_VERSIONS)
    assert msgspec.json.decode(newest.value, type=ModelVersions).drifts == 1
    assert newest.key == b"versions"


def test_a_broken_record_is_passed_over(training):
    use_case = training(RememberingTrainer())
    assert use_case.handle(batch(part(USER_INTERESTS, [b"{", None, *records(stream(1))]))) == {SOURCE: 3}
    assert use_case.waiting == 1


def test_a_full_disk_stops_no_training_and_the_checkpoint_is_tried_again(training, clock):
    trainer, publisher = RememberingTrainer(), MemoryPublisher()
    use_case = training(trainer, publisher)
    trainer.disk_is_full = True
    values = records(stream(60))
    for number, start in enumerate(range(0, 60, 20), start=1):
        clock[0] = 31.0 * number
        use_case.handle(batch(part(USER_INTERESTS, values[start : start + 20], start=start)))
        use_case.step()
    assert len(trainer.trained) == 60
    assert [record.value for record in publisher.of(MODEL_UPDATES)] == [b"20", b"40", b"60"]
    assert trainer.saved is None

    trainer.disk_is_full = False
    clock[0] += 31.0
    use_case.step()
    use_case.checkpoint()
    assert trainer.unsaved == ""
    assert training(RememberingTrainer(trainer.saved)).positions([SOURCE]) == {SOURCE: 60}


def test_a_checkpoint_that_failed_is_due_again_although_nothing_came_since(training, clock):
    trainer = RememberingTrainer()
    use_case = training(trainer)
    trainer.disk_is_full = True
    use_case.handle(batch(part(USER_INTERESTS, records(stream(10)))))
    use_case.step()
    use_case.checkpoint()
    assert trainer.unsaved
    assert not use_case.must_step, "not at once: the disk is as full as before"
    clock[0] += 31.0
    assert use_case.must_step


def test_a_slice_without_records_moves_the_position():
    training = TrainOnInterests(RememberingTrainer(), MemoryPublisher())

    assert training.handle(batch(Slice(SOURCE, 0, 4))) == {SOURCE: 4}
    assert training.waiting == 0


def test_a_version_contains_what_was_trained_not_what_waits(training):
    trainer = RememberingTrainer()
    use_case = training(trainer, MemoryPublisher())
    values = records(stream(admission.MAX_STEP_EVENTS + 10))
    use_case.handle(batch(part(USER_INTERESTS, values[:600])))
    use_case.handle(batch(part(USER_INTERESTS, values[600:], start=600)))
    assert trainer.contains == {}
    use_case.step()
    assert use_case.waiting == 10
    assert trainer.contains == {0: 600}, "the second batch is not trained to its end"
    use_case.step()
    assert trainer.contains == {0: len(values)}


def test_records_without_a_new_event_are_contained_too(training):
    trainer = RememberingTrainer()
    use_case = training(trainer, MemoryPublisher())
    values = records(stream(5))
    use_case.handle(batch(part(USER_INTERESTS, values)))
    use_case.step()
    assert not use_case.must_step
    use_case.handle(batch(part(USER_INTERESTS, values[:2], start=5)))
    assert (use_case.waiting, use_case.must_step) == (0, True)
    use_case.step()
    assert trainer.contains == {0: 7}
    assert not use_case.must_step


def test_what_waited_in_a_checkpoint_is_contained_once_it_is_trained(training):
    trainer = RememberingTrainer()
    use_case = training(trainer, MemoryPublisher())
    use_case.handle(batch(part(USER_INTERESTS, records(stream(5)))))
    use_case.checkpoint()
    again = RememberingTrainer(trainer.saved)
    use_case = training(again, MemoryPublisher())
    assert again.contains == {}
    use_case.step()
    assert again.contains == {0: 5}


def test_readers_of_a_recreated_model_updates_are_told_everything_at_once(training):
    trainer, publisher = RememberingTrainer(), MemoryPublisher()
    use_case = training(trainer, publisher)
    use_case.adopt_topic_ids({MODEL_UPDATES: "a"})
    use_case.step()
    assert not use_case.must_step
    use_case.adopt_topic_ids({MODEL_UPDATES: "b"})
    assert use_case.must_step
    use_case.step()
    use_case.step()
    assert [record.value for record in publisher.of(MODEL_UPDATES)] == [b"everything"]


def test_a_recreated_catalogue_takes_the_place_of_the_old_one(training):
    trainer = RememberingTrainer()
    use_case = training(trainer)
    use_case.learn(batch(part(ITEMS, [b'{"item_id": "a"}'])))
    use_case.begin_anew(ITEMS, "b")
    use_case.learn(batch(part(ITEMS, [b'{"item_id": "b"}'])))
    assert trainer.catalogue == {"b"}
