from __future__ import annotations

import msgspec
import pytest
from builders import batch, part
from doubles import MemoryPublisher
from hypothesis import given
from hypothesis import strategies as st
from interests import stream

from streamrec.contracts.model_version import ModelCommand, ModelVersions
from streamrec.contracts.topics import ITEMS, MODEL_CONTROL, MODEL_UPDATES, MODEL_VERSIONS, USER_INTERESTS
from streamrec.errors import TransientError
from streamrec.service import admission
from streamrec.service.batch import Slice, TopicPartition
from streamrec.service.fence import WINDOW_OFFSETS, Fences, PositionFence
from streamrec.service.train_on_interests import TrainOnInterests

SOURCE = TopicPartition(USER_INTERESTS, 0)


class RememberingTrainer:
    """Keeps what it was given; a checkpoint is a copy of that, and a version is the number of events it has learned."""

    def __init__(self, saved=None) -> None:
        self.admissions, trained = saved or (b"", [])
        self.trained = list(trained)
        self.behind = []
        self.saved = saved
        self.saving = None
        self.kept = {}
        self.condemned = ""
        self.unsaved = ""
        self.disk_is_full = False
        self.spared = Fences()
        self.refuse_next = False
        self.contains = {}
        self.catalogue = set()
        self.versions = ModelVersions(versions=[], refused=0, rolled_back=0, drifts=0)
        self._told = len(self.trained)

    def train(self, interests, *, behind):
        self.trained += [position for interest in interests for position in interest.new]
        self.behind.append(behind)

    def contain(self, contains):
        self.contains = dict(contains)

    def put_item(self, item):
        self.catalogue.add(item.item_id)

    def forget_catalogue(self):
        self.catalogue.clear()

    def take_update(self, *, whole=False):
        if whole:
            return [b"everything"]
        if self._told == len(self.trained):
            return []
        self._told = len(self.trained)
        if self.refuse_next:
            self.condemned = "refused"
            return []
        return [str(len(self.trained)).encode()]

    def save(self, admissions):
        self.wait_until_saved()
        self.saving = (admissions, list(self.trained))

    def wait_until_saved(self):
        if self.saving:
            self.unsaved = "no space left on device" if self.disk_is_full else ""
        if self.saving and not self.disk_is_full:
            self.saved = self.kept[str(len(self.saving[1]))] = self.saving
        self.saving = None

    def can_go_back_to(self, version):
        self.wait_until_saved()
        return version in self.kept

    def roll_back(self, version, because):
        assert because
        self.wait_until_saved()
        self.condemned, self.refuse_next = "", False
        admissions, trained = self.kept[version] if version else next(iter(self.kept.values()), (b"", []))
        self.trained, self._told = list(trained), -1
        self.versions = msgspec.structs.replace(self.versions, rolled_back=self.versions.rolled_back + 1)
        return admissions

    def spare(self, events):
        self.spared.join(events)


def records(interests):
    return [msgspec.json.encode(interest) for interest in interests]


def command(name):
    return msgspec.json.encode(ModelCommand(roll_back_to=name, asked_at_ms=1))


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def training(clock):
    def start(trainer, publisher=None):
        return TrainOnInterests(trainer, publisher or MemoryPublisher(), monotonic_s=lambda: clock[0])

    return start


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


def test_a_version_that_is_refused_is_not_published_and_the_reader_goes_back(training):
    trainer, publisher = RememberingTrainer(), MemoryPublisher()
    use_case = training(trainer, publisher)
    values = records(stream(60))
    use_case.handle(batch(part(USER_INTERESTS, values[:20])))
    use_case.step()
    use_case.checkpoint()
    use_case.handle(batch(part(USER_INTERESTS, values[20:40], start=20)))
    trainer.refuse_next = True
    use_case.step()
    assert use_case.positions([SOURCE]) == {SOURCE: 20}
    # what the reader had in its hands starts where nobody stands any more
    assert use_case.handle(batch(part(USER_INTERESTS, values[40:], start=40))) == {SOURCE: 20}
    assert use_case.waiting == 0
    use_case.handle(batch(part(USER_INTERESTS, values[20:], start=20)))
    use_case.step()
    assert [record.value for record in publisher.of(MODEL_UPDATES)] == [b"20", b"20", b"60"]
    assert len(trainer.trained) == len(set(trainer.trained)) == 60
    spared = [position for position in trainer.trained if position in trainer.spared]
    assert spared == trainer.trained[20:40]


def test_a_rollback_before_the_first_checkpoint_reads_everything_again(training):
    trainer = RememberingTrainer()
    use_case = training(trainer)
    values = records(stream(20))
    use_case.handle(batch(part(USER_INTERESTS, values)))
    trainer.refuse_next = True
    use_case.step()
    assert use_case.positions([SOURCE]) == {SOURCE: 0}
    use_case.handle(batch(part(USER_INTERESTS, values)))
    use_case.step()
    assert len(trainer.trained) == 20


def test_a_rollback_is_on_the_disk_before_anybody_sees_it(training):
    trainer, publisher = RememberingTrainer(), MemoryPublisher()
    use_case = training(trainer, publisher)
    values = records(stream(40))
    use_case.handle(batch(part(USER_INTERESTS, values[:20])))
    use_case.step()
    use_case.checkpoint()
    use_case.handle(batch(part(USER_INTERESTS, values[20:], start=20)))
    use_case.step()
    use_case.checkpoint()
    use_case.learn(batch(part(MODEL_CONTROL, [command("20")])))
    publisher.failures = 1
    with pytest.raises(TransientError):
        use_case.step()
    again = training(RememberingTrainer(trainer.saved))
    assert again.positions([SOURCE]) == {SOURCE: 20}
    again.learn(batch(part(MODEL_CONTROL, [command("20")])))
    assert not again.must_step
    use_case.step()
    assert [record.value for record in publisher.of(MODEL_UPDATES)] == [b"20", b"40", b"20"]


def test_a_command_for_what_is_not_kept_changes_nothing(training):
    trainer = RememberingTrainer()
    use_case = training(trainer)
    use_case.handle(batch(part(USER_INTERESTS, records(stream(20)))))
    use_case.learn(batch(part(MODEL_CONTROL, [command("7"), b"{", None, b'{"roll_back_to": "\xff"}', b"[" * 100_000])))
    assert use_case.must_step
    use_case.step()
    assert len(trainer.trained) == 20
    assert use_case.positions([SOURCE]) == {SOURCE: 20}
    assert not use_case.must_step


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


@given(st.lists(st.integers(0, 300)))
def test_a_fence_admits_each_offset_once(offsets):
    fence, seen = PositionFence(), set()
    for offset in offsets:
        assert fence.admit(offset) == (offset not in seen)
        seen.add(offset)


@given(st.sets(st.integers(0, 300)), st.sets(st.integers(0, 300)))
def test_fences_join_and_leave_out_like_sets(one, other):
    def fence_of(offsets):
        fence = PositionFence()
        for offset in sorted(offsets):
            fence.admit(offset)
        return fence

    joined, left = fence_of(one), fence_of(one)
    joined.join(fence_of(other))
    left.leave_out(fence_of(other))
    assert {offset for offset in range(320) if offset in joined} == one | other
    assert {offset for offset in range(320) if offset in left} == one - other


def test_joined_fences_know_their_windows():
    old, new = PositionFence(), PositionFence()
    old.admit(3)
    old.admit(10)
    new.admit(WINDOW_OFFSETS + 5)
    old.join(new)
    assert 10 in old
    assert WINDOW_OFFSETS + 5 in old
    assert 3 not in old


def test_a_fence_is_exact_within_its_window_and_refuses_what_is_older():
    fence = PositionFence()
    assert fence.admit(5)
    assert fence.admit(WINDOW_OFFSETS + 4)
    assert not fence.admit(5)
    assert fence.admit(6)
    assert fence.admit(WINDOW_OFFSETS + 5)
    assert not fence.admit(3)
    again = PositionFence(fence.highest, fence.bits)
    assert not again.admit(6)
    assert again.admit(7)
    assert fence.admit(10 * WINDOW_OFFSETS)
    assert len(fence.bits) <= WINDOW_OFFSETS // 8


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


def test_a_rollback_that_cannot_be_saved_is_seen_by_nobody(training):
    trainer, publisher = RememberingTrainer(), MemoryPublisher()
    use_case = training(trainer, publisher)
    use_case.handle(batch(part(USER_INTERESTS, records(stream(20)))))
    use_case.step()
    use_case.checkpoint()
    trainer.disk_is_full = True
    use_case.learn(batch(part(MODEL_CONTROL, [command("20")])))
    for _ in range(3):
        with pytest.raises(TransientError, match="rollback cannot be saved"):
            use_case.step()
    assert [record.value for record in publisher.of(MODEL_UPDATES)] == [b"20"]
    assert use_case.must_step

    trainer.disk_is_full = False
    use_case.step()
    assert [record.value for record in publisher.of(MODEL_UPDATES)] == [b"20", b"20"]
    assert not use_case.must_step


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


def test_commands_of_a_recreated_topic_are_obeyed_once(training, clock):
    trainer = RememberingTrainer()
    use_case = training(trainer)
    use_case.adopt_topic_ids({MODEL_CONTROL: "a"})
    use_case.handle(batch(part(USER_INTERESTS, records(stream(5)))))
    clock[0] += 100
    use_case.step()
    trainer.wait_until_saved()
    [kept] = trainer.kept
    orders = batch(part(MODEL_CONTROL, [command(kept)]))
    for topic_id in ("a", "b", "b"):
        use_case.begin_anew(MODEL_CONTROL, topic_id)
        use_case.learn(orders)
        use_case.step()
    assert trainer.versions.rolled_back == 2
