"""Going back to an older version: by command, or because a version is refused."""

from __future__ import annotations

import pytest
from builders import batch, part
from doubles import MemoryPublisher
from interests import stream
from remembering_trainer import SOURCE, RememberingTrainer, command, records

from streamrec.contracts.topics import MODEL_CONTROL, MODEL_UPDATES, USER_INTERESTS
from streamrec.errors import TransientError


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
