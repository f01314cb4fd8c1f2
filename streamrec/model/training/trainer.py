"""The trainer: training, checks of versions before serving, checkpoints and rollback.

Changes since the last version become the next one if the guard accepts it; kept versions are checkpoints, and rollbacks
restore one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import structlog
import torch

from streamrec.contracts.derived import UserInterest
from streamrec.contracts.incoming import Item
from streamrec.contracts.model_version import ModelVersions
from streamrec.errors import StreamrecError
from streamrec.model.network.config import ModelConfig
from streamrec.model.network.weights import weights_of
from streamrec.model.ranking import lists
from streamrec.model.ranking.serving import ServingModel, Weights, dense_shape
from streamrec.model.tables import covisitation
from streamrec.model.tables.catalogue import Catalogue
from streamrec.model.tables.vocabulary import unpack_ids
from streamrec.model.tensors import below, prefixed
from streamrec.model.threads import limit_threads
from streamrec.model.training import checkpoint
from streamrec.model.training.archive import Archive, Saved
from streamrec.model.training.guard import Guard
from streamrec.model.training.lineage import Lineage
from streamrec.model.training.online_model import OnlineModel
from streamrec.model.training.rules import Rules
from streamrec.service.fence import Fences, FenceState
from streamrec.service.tally import TrainingProgress
from streamrec.settings import Settings

_log = structlog.get_logger(__name__)


class Trainer:
    """Learns from interests; see :class:`streamrec.service.ports.Trainer`.

    Parameters
    ----------
    config
        Shape of the network.
    rules
        What it learns and how it lists.
    device
        Device for training.
    checkpoints
        Directory of the checkpoints; the trainer resumes from the latest one.

    Raises
    ------
    StreamrecError
        If all checkpoints are damaged, or the latest intact one is of another format or shape.
    """

    def __init__(self, config: ModelConfig, rules: Rules, *, device: torch.device, checkpoints: Path) -> None:
        limit_threads()
        # compiling during the first steps would delay them, and what they learn, by 30 s each
        lists.warm_up()
        covisitation.warm_up()
        self.config = config
        self.checkpoints = checkpoints
        self.catalogue = Catalogue()
        self._new_model = partial(OnlineModel, config, rules, device=device, catalogue=self.catalogue)
        self.model = self._new_model()
        self.lineage, self.guard = Lineage(), Guard(hide_seen=rules.hide_seen)
        self.spared = Fences()
        """Events learned by rolled back versions: counted, but no longer trained on by gradient."""
        self.condemned, self.admissions = "", b""
        self._unsent: list[bytes] = []
        self._told_contains: dict[int, int] | None = None
        """Contents of the latest version."""
        self._micro_batches = self._events = 0
        self._archive = Archive(checkpoints)
        if found := self._archive.newest_whole():
            self._open(*found)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Return a trainer resumed from the latest checkpoint, or a new one.

        Raises
        ------
        SettingsError
            If no installed package has one of the channels.
        """
        cuda = torch.cuda.is_available() if settings.model_device == "auto" else settings.model_device == "cuda"
        # tensors are small: more threads are not faster, and take CPU time from recall
        torch.set_num_threads(1)
        config = ModelConfig(dim=settings.embedding_dim, max_length=settings.sequence_length)
        device = torch.device("cuda" if cuda else "cpu")
        return cls(config, Rules.of(settings), device=device, checkpoints=settings.checkpoint_dir)

    @property
    def progress(self) -> TrainingProgress:
        """Progress; test results are counted since the last rollback."""
        stacking = self.model.stacking
        return TrainingProgress(
            micro_batches=self._micro_batches,
            events=self._events,
            tested=stacking.tested,
            hits=stacking.hits,
            popular_hits=stacking.popular_hits,
            drift_alarms=self.model.drifts,
            loss=stacking.recent_loss,
            version=self.serving.version,
            learned_at_ms=self.model.newest_produced_at_ms,
            checkpoint_failures=self._archive.failures,
            unsaved=self.unsaved,
        )

    @property
    def unsaved(self) -> str:
        """Why the latest checkpoint could not be written; empty on success."""
        return self._archive.failing

    def put_item(self, item: Item) -> None:
        """Update an item's metadata from the catalogue; must be called by a single thread."""
        self.catalogue.put(item, is_known=bool(self.model.items.vocabulary.row(item.item_id)))

    def delete_item(self, item_id: str) -> None:
        """Remove an item's metadata; must be called by the same thread."""
        self.catalogue.delete(item_id)

    def forget_catalogue(self) -> None:
        """Clear the catalogue; must be called by the same thread."""
        self.catalogue.clear()

    def train(self, interests: Sequence[UserInterest], *, behind: int) -> None:
        """Learn the `new` events of each interest; with a larger backlog, with less effort per event."""
        self.model.learn(interests, self.guard, self.spared, behind=behind)
        self._micro_batches += 1
        self._events += sum(len(interest.new) for interest in interests)
        self._judge()

    def contain(self, contains: Mapping[int, int]) -> None:
        """Record that all records below these offsets of `user-interests` have been learned."""
        if contains:
            # replaced, not modified: an existing version refers to the old one
            self.model.contains = {**(self.model.contains or {}), **contains}

    @property
    def serving(self) -> ServingModel:
        """The latest version, as readers see it once published."""
        return self.model.releases.serving

    @property
    def versions(self) -> ModelVersions:
        """Kept and refused versions with their status."""
        return self.lineage.record(drifts=self.model.drifts)

    def take_update(self, *, whole: bool = False) -> list[bytes]:
        """Return the records of `model-updates` since the last call, perhaps none; with `whole` all that is known.

        If the version fails the check before serving, no records are returned and the trainer is condemned.
        """
        if self._unsent:
            records, self._unsent = self._unsent, []
            return records
        model = self.model
        # records without new events count as learned, too: readers wait for a version that contains them
        says_more = bool(self.serving.version) and (whole or model.contains != self._told_contains)
        if self.condemned or not (model.releases.is_due or says_more):
            return []
        version = self.lineage.next_name()
        self.guard.forget(model.items.renamed)
        changes, records = model.releases.make(version, model.learned(self.lineage.rolled_back), whole=whole)
        self._told_contains = model.contains
        # only some versions contain the network
        self.condemned = self.guard.fault_of(self.serving, [changes, weights_of(model.learner.model)])
        if self.condemned:
            _log.error("version refused", version=version, because=self.condemned)
            self.lineage.refuse(version, self.condemned, events=model.events)
            return []
        return records

    def save(self, admissions: bytes) -> None:
        """Start writing a checkpoint of everything learned so far, with the caller's own record.

        It is complete or has failed when :meth:`wait_until_saved` returns; training may continue meanwhile.
        """
        self.wait_until_saved()
        number = max([0, *self._archive.numbers, *self.lineage.checkpoints]) + 1
        name = self.lineage.keep(
            self.serving.version, events=self.model.events, loss=self.guard.loss, checkpoint=number
        )
        if self.lineage.candidate == name:
            self.guard.begin_trial()
        tensors, documents = self.model.state()
        guarded, held = self.guard.state()
        tensors |= {**prefixed("serving", self.serving.weights.state()), **prefixed("guard", guarded)}
        documents |= {
            "admissions": admissions,
            "held": held,
            "lineage": self.lineage.state(),
            "shape": msgspec.json.encode(dense_shape(self.config).tolist()),
            "spared": msgspec.json.encode(self.spared.state()),
        }
        contents = checkpoint.packed(tensors, documents)
        self._archive.begin(number, contents, kept=frozenset(self.lineage.checkpoints))

    def wait_until_saved(self) -> None:
        """Wait until the checkpoint is written or has failed: see :attr:`unsaved`."""
        if lost := self._archive.wait():
            self.lineage.lose(lost)

    def can_go_back_to(self, version: str) -> bool:
        """Return whether a version has an intact checkpoint."""
        self.wait_until_saved()
        return self._archive.is_whole(self.lineage.checkpoint_of(version))

    def roll_back(self, version: str | None, because: str) -> bytes:
        """Restore a kept version; see :class:`streamrec.service.ports.Trainer`."""
        self.wait_until_saved()
        version = self._last_whole_good() if version is None else version
        _log.error("rolled back", to=version, served=self.serving.version, events=self.model.events, because=because)
        good, admissions, model = Weights(), b"", self._new_model()
        if version:
            tensors, documents = self._archive.read(self.lineage.checkpoint_of(version))
            model.load(tensors, documents)
            good, admissions = Weights.of(below("serving", tensors)), documents["admissions"]
        model.drifts, model.rolled_back_to = self.model.drifts, model.events
        self.model = model
        self.condemned = ""
        self.lineage.roll_back(version, because)
        self.guard.go_back(good)
        # the version lacks catalogue updates since then
        self.catalogue.tell_again(model.items.vocabulary.row)
        self._unsent = self.take_update()
        return admissions

    def spare(self, events: Fences) -> None:
        """Only count these events when they are read again; do not train on them."""
        self.spared.join(events)

    def _open(self, number: int, saved: Saved) -> None:
        """Restore a checkpoint, with the status of other versions when it was written."""
        tensors, documents = saved
        shape, own = json.loads(documents["shape"]), dense_shape(self.config).tolist()
        if shape != own:
            raise StreamrecError(
                f"checkpoint {number} in {self.checkpoints} is of a network of shape {shape}, not {own}: restore "
                "STREAMREC_EMBEDDING_DIM and STREAMREC_SEQUENCE_LENGTH, or move the directory away to restart"
            )
        self.model.load(tensors, documents)
        self.admissions = documents["admissions"]
        self.lineage.load(documents["lineage"], self._archive.numbers)
        self.spared = Fences(msgspec.json.decode(documents["spared"], type=list[FenceState]))
        self.guard.load(below("guard", tensors), documents["held"])
        while self.lineage.last_good:
            good = self._weights_of(self.lineage.last_good)
            if good is not None:
                self.guard.good = good
                break
        self._unsent = self.take_update()

    def _last_whole_good(self) -> str:
        """Return the latest good version with an intact checkpoint; empty if there is none."""
        while self.lineage.last_good and not self.can_go_back_to(self.lineage.last_good):
            self.lineage.lose(self.lineage.checkpoint_of(self.lineage.last_good))
        return self.lineage.last_good

    def _weights_of(self, version: str) -> Weights | None:
        """Read the weights of a kept version, without vectors of items whose rows were reassigned.

        An unreadable one is no longer kept, and `None` is returned.
        """
        self.wait_until_saved()
        number = self.lineage.checkpoint_of(version)
        found = self._archive.arrays(number, "serving", "items.vocabulary") if number else None
        if found is None:
            self.lineage.lose(number)
            return None
        arrays, vocabulary = found
        weights = Weights.of(arrays)
        then, now = unpack_ids(vocabulary["ids"])[: len(weights.vectors.steps)], self.model.items.vocabulary.ids
        others = [row for row, ids in enumerate(zip(then, now, strict=False)) if ids[0] != ids[1]]
        weights.vectors.clear(np.array(others, np.int64))
        return weights

    def _judge(self) -> None:
        """Condemn the serving version if it is worse than the last good one, or promote the one on trial."""
        if fault := self.guard.fault(self.lineage.last_good):
            self.condemned = fault
        elif self.lineage.candidate:
            is_good = self.guard.judgement()
            if is_good:
                self._promote()
            elif is_good is not None:
                self.lineage.candidate = ""

    def _promote(self) -> None:
        """Make the version on trial the last good one, unless it has no checkpoint."""
        weights = self._weights_of(self.lineage.candidate)
        if weights is None:
            return
        version = self.lineage.promote()
        self.guard.promote(weights)
        _log.info("version is good", version=version)
