"""Checkpoints on a disk that fills up, and in a directory in which people move, copy and damage things."""

from __future__ import annotations

import errno
import json
import shutil

import pytest
from interests import stream
from structlog.testing import capture_logs

from streamrec.errors import StreamrecError
from streamrec.metrics import TrainerMetrics
from streamrec.model.training import checkpoint
from streamrec.model.training.archive import Archive
from streamrec.model.training.checkpoint import DamagedCheckpointError
from streamrec.model.training.claim import claimed


def write(root, number, *, kept=()):
    """Write a small checkpoint whose only document says its number."""
    contents = checkpoint.packed({}, {"admissions": str(number).encode()})
    return checkpoint.write(root, number, contents, kept=kept)


def full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def save(trainer, name):
    trainer.train(stream(30), behind=0)
    trainer.take_update()
    trainer.save(name)
    trainer.wait_until_saved()


def flip(file):
    """Change one byte in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "a flipped byte": lambda path: flip(path / "tensors.safetensors"),
    "a flipped byte in a document": lambda path: flip(path / "admissions.json"),
    "half a file": lambda path: (path / "tensors.safetensors").write_bytes(b"half"),
    "an empty file": lambda path: (path / "tensors.safetensors").write_bytes(b""),
    "an empty manifest": lambda path: (path / "manifest.json").write_bytes(b""),
    "a manifest of something else": lambda path: (path / "manifest.json").write_text("[]"),
    "a manifest without arrays": lambda path: (path / "manifest.json").write_text('{"format": 2, "digests": {}}'),
    "a file that is gone": lambda path: (path / "admissions.json").unlink(),
    "a directory in the place of a file": lambda path: (
        (path / "admissions.json").unlink(),
        (path / "admissions.json").mkdir(),
    ),
    "an empty directory": lambda path: (shutil.rmtree(path), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_latest_intact_checkpoint_replaces_a_damaged_one(tmp_path, damage):
    write(tmp_path, 1)
    damage(write(tmp_path, 2, kept=[1]))
    archive = Archive(tmp_path)

    assert not archive.is_whole(2)
    with pytest.raises(DamagedCheckpointError, match="checkpoint-000000002 is damaged"):
        archive.read(2)
    with pytest.raises(DamagedCheckpointError, match="is damaged"):
        checkpoint.check(tmp_path, 2)
    with capture_logs() as lines:
        number, (_tensors, documents) = archive.newest_whole()
    assert (number, documents["admissions"]) == (1, b"1")
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["checkpoint damaged"]
    assert archive.numbers == [1]
    assert (tmp_path / "checkpoint-000000002.damaged").is_dir(), "it stays for a look at what went wrong"

    write(tmp_path, 2, kept=[1])
    assert archive.newest_whole()[0] == 2


@pytest.mark.parametrize("damage", [DAMAGES["a flipped byte"], DAMAGES["half a file"], DAMAGES["an empty file"]])
def test_arrays_are_not_read_without_a_look_at_their_digest(tmp_path, damage):
    damage(write(tmp_path, 1))

    with pytest.raises(DamagedCheckpointError, match="tensors"):
        checkpoint.read_tensors(tmp_path, 1, "serving")


def test_if_all_are_damaged_the_operator_decides(tmp_path):
    DAMAGES["a flipped byte"](write(tmp_path, 1))
    DAMAGES["an empty directory"](write(tmp_path, 2, kept=[1]))

    for _ in range(2):
        with pytest.raises(DamagedCheckpointError, match=r"checkpoint-000000002 is damaged .* move it away"):
            Archive(tmp_path).newest_whole()
    assert checkpoint.numbers(tmp_path) == [1, 2]


def test_few_damaged_ones_are_kept(tmp_path):
    write(tmp_path, 1)
    for number in range(2, 7):
        DAMAGES["half a file"](write(tmp_path, number, kept=range(1, number)))
    assert Archive(tmp_path).newest_whole()[0] == 1
    assert len(list(tmp_path.glob("*.damaged"))) == checkpoint.KEPT_DAMAGED


def test_names_are_matched_exactly_and_what_is_not_ours_is_unchanged(tmp_path):
    path = write(tmp_path, 7)
    strangers = [
        "checkpoint-000000007.bak",
        "checkpoint-9",
        "checkpoint-",
        "checkpoint-00000000x",
        "checkpoint-0000000008",
        "old-checkpoint-000000009",
        "checkpoint-000000010 copy",
        "checkpoint-٠٠٠٠٠٠٠١٢",
    ]
    for name in strangers:
        shutil.copytree(path, tmp_path / name)
    (tmp_path / "identity").touch()
    (tmp_path / "lock").touch()
    (tmp_path / "notes.txt").write_text("moved aside on Monday")
    (tmp_path / "checkpoint-000000011").write_text("a file")
    (tmp_path / ".unfinished-000000003").write_text("a file")

    with capture_logs() as lines:
        archive = Archive(tmp_path)
    assert archive.numbers == [7]
    assert [line["event"] for line in lines] == ["ignoring unknown files"]
    assert lines[0]["count"] == len(strangers) + 3
    write(tmp_path, 8)
    assert archive.newest_whole()[0] == 8
    assert {path.name for path in tmp_path.iterdir()} >= {*strangers, "notes.txt"}


def test_a_directory_that_must_not_be_read_is_none_without_checkpoints(tmp_path, monkeypatch):
    def forbidden(_path):
        raise PermissionError(errno.EACCES, "Permission denied")

    write(tmp_path, 1)
    monkeypatch.setattr("pathlib.Path.iterdir", forbidden)
    with pytest.raises(StreamrecError, match=r"cannot be read: .*Permission denied"):
        checkpoint.numbers(tmp_path)


def test_a_checkpoint_that_must_not_be_read_is_not_skipped(tmp_path, monkeypatch):
    write(tmp_path, 1)
    write(tmp_path, 2, kept=[1])

    def forbidden(_path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", forbidden)
    with pytest.raises(StreamrecError, match="change its owner or mode") as error:
        Archive(tmp_path).newest_whole()
    assert not isinstance(error.value, DamagedCheckpointError)
    assert checkpoint.numbers(tmp_path) == [1, 2]


@pytest.mark.parametrize("below", ["", "model"])
def test_a_directory_that_is_a_file_is_refused_with_a_clear_error(tmp_path, below):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StreamrecError, match="cannot be used for checkpoints"),
        claimed(tmp_path / "file" / below),
    ):
        pass


def test_a_full_disk_is_reported_immediately_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    write(tmp_path, 1)
    archive = Archive(tmp_path)
    contents = checkpoint.packed({}, {"admissions": b"2"})
    with monkeypatch.context() as patched, capture_logs() as lines:
        patched.setattr("os.fsync", full_disk)
        archive.begin(2, contents, kept=[1])
        archive._writing.exception()  # nobody asks the archive
    assert [(line["event"], line["log_level"]) for line in lines] == [("checkpoint not written", "error")]
    assert "No space left" in lines[0]["because"]
    assert (archive.failures, "No space left" in archive.failing) == (1, True)
    assert archive.wait() == 2
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000001"], "half of one would fill the disk"

    archive.begin(2, contents, kept=[1])
    assert archive.wait() == 0
    assert (archive.failures, archive.failing) == (1, "")
    assert archive.numbers == [1, 2]


def test_a_trainer_goes_through_a_full_disk(new_trainer, monkeypatch):
    trainer = new_trainer()
    save(trainer, b"1")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full_disk)
        save(trainer, b"2")
        save(trainer, b"3")
    assert trainer.progress.checkpoint_failures == 2
    assert "No space left" in trainer.progress.unsaved
    assert [version.checkpoint for version in trainer.versions.versions if version.checkpoint] == [1]
    assert new_trainer().admissions == b"1"

    trainer = new_trainer()
    save(trainer, b"4")
    assert trainer.unsaved == ""
    assert new_trainer().admissions == b"4"


def test_the_failure_is_a_figure(new_trainer, monkeypatch):
    from prometheus_client import CollectorRegistry  # noqa: PLC0415  # of this test alone

    registry = CollectorRegistry()
    metrics = TrainerMetrics(registry)
    trainer = new_trainer()
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full_disk)
        save(trainer, b"1")
    metrics.record_training(trainer.progress, waiting=0)
    assert registry.get_sample_value("streamrec_checkpoint_failures_total") == 1.0
    assert registry.get_sample_value("streamrec_checkpoint_failing") == 1.0
    save(trainer, b"2")
    metrics.record_training(trainer.progress, waiting=0)
    assert registry.get_sample_value("streamrec_checkpoint_failing") == 0.0


def test_nobody_goes_back_to_a_damaged_version(new_trainer, tmp_path):
    trainer = new_trainer()
    save(trainer, b"1")
    first = trainer.lineage.promote()
    save(trainer, b"2")
    second = trainer.lineage.promote()
    flip(tmp_path / "model" / "checkpoint-000000002" / "tensors.safetensors")
    assert trainer.can_go_back_to(first)
    assert not trainer.can_go_back_to(second)
    assert trainer.roll_back(None, "a test") == b"1", "the newest good one that is whole"


def test_a_damaged_version_on_trial_does_not_become_the_last_good_one(new_trainer, tmp_path):
    trainer = new_trainer()
    save(trainer, b"1")
    flip(tmp_path / "model" / "checkpoint-000000001" / "tensors.safetensors")
    assert trainer.lineage.candidate
    with capture_logs() as lines:
        trainer._promote()
    assert trainer.lineage.last_good == trainer.lineage.candidate == ""
    assert [line["event"] for line in lines] == ["checkpoint unreadable"]
    save(trainer, b"2")
    assert trainer.lineage.candidate, "the next one is on trial"


def test_a_damaged_last_good_one_is_replaced_by_the_one_before_it_at_the_start(new_trainer, tmp_path):
    trainer = new_trainer()
    save(trainer, b"1")
    first = trainer.lineage.promote()
    save(trainer, b"2")
    trainer.lineage.promote()
    save(trainer, b"3")
    flip(tmp_path / "model" / "checkpoint-000000002" / "tensors.safetensors")
    again = new_trainer()
    assert again.admissions == b"3"
    assert again.lineage.last_good == first


def test_a_newer_format_is_not_skipped(tmp_path):
    write(tmp_path, 1)
    manifest = write(tmp_path, 2, kept=[1]) / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(StreamrecError, match="has format 99"):
        Archive(tmp_path).newest_whole()
    assert checkpoint.numbers(tmp_path) == [1, 2]
