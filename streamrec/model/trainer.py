"""The trainer: what learns, which of its versions may serve, and which are kept to go back to.

What changed since the last version becomes the next, if the guard lets it pass; a kept version is a checkpoint, and so
is what a rollback goes on from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import msgspec
import structlog
import torch

from streamrec.contracts.derived import UserInterest
from streamrec.contracts.incoming import Item
from streamrec.contracts.model_version import ModelVersions
from streamrec.errors import StreamrecError
from streamrec.model import checkpoint, covisitation, lists
from streamrec.model.archive import Archive, Saved
from streamrec.model.catalogue import Catalogue
from streamrec.model.guard import Guard
from streamrec.model.learning import Learning
from streamrec.model.lineage import Lineage
from streamrec.model.sequence_model import ModelConfig
from streamrec.model.serving import ServingModel, Weights, dense_shape
from streamrec.model.tensors import below, prefixed, weights_of
from streamrec.model.vocabulary import unpack_ids
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
    hide_seen
        Whether lists hide what is in the user's sequence.
    device
        Where the network trains.
    checkpoints
        Directory of the checkpoints; the newest one in it is where this trainer goes on.
    admit_after
        Events of an item before its row learns.
    seed
        Seeds every draw: the same interests in the same steps give the same model.

    Raises
    ------
    StreamrecError
        If all checkpoints are damaged, or the newest one that is whole is of another format or shape.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        hide_seen: bool,
        device: torch.device,
        checkpoints: Path,
        admit_after: int = 1,
        seed: int = 0,
    ) -> None:
        # a first step that compiles would take half a minute, and the checkpoint after it would come as late
        lists.warm_up()
        covisitation.warm_up()
        self.config = config
        self.checkpoints = checkpoints
        self.catalogue = Catalogue()
        self._new_learning = partial(
            Learning,
            config,
            hide_seen=hide_seen,
            device=device,
            admit_after=admit_after,
            seed=seed,
            catalogue=self.catalogue,
        )
        self.learning = self._new_learning()
        self.lineage, self.guard = Lineage(), Guard(hide_seen=hide_seen)
        self.spared = Fences()
        """Events that led to a version that was rolled back: counted, and never trained by gradient again."""
        self.condemned, self.admissions = "", b""
        self._unsent: list[bytes] = []
        self._told_contains: dict[int, int] | None = None
        """What the newest version says that it contains."""
        self._micro_batches = self._events = 0
        self._archive = Archive(checkpoints)
        if found := self._archive.newest_whole():
            self._open(*found)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Return a trainer that goes on from the newest checkpoint, or a new one."""
        cuda = torch.cuda.is_available() if settings.model_device == "auto" else settings.model_device == "cuda"
        # tensors are small: more threads make nothing faster, and take cores from what serves
        torch.set_num_threads(1)
        config = ModelConfig(dim=settings.embedding_dim, max_length=settings.sequence_length)
        return cls(
            config,
            hide_seen=settings.hide_seen,
            device=torch.device("cuda" if cuda else "cpu"),
            checkpoints=settings.checkpoint_dir,
            admit_after=settings.admit_after,
        )

    @property
    def progress(self) -> TrainingProgress:
        """How it gets on; what was tested is counted from the last rollback on."""
        stacking = self.learning.stacking
        return TrainingProgress(
            micro_batches=self._micro_batches,
            events=self._events,
            tested=stacking.tested,
            hits=stacking.hits,
            popular_hits=stacking.popular_hits,
            drift_alarms=self.learning.drifts,
            loss=stacking.recent_loss,
            version=self.serving.version,
            learned_at_ms=self.learning.newest_produced_at_ms,
            checkpoint_failures=self._archive.failures,
            unsaved=self.unsaved,
        )

    @property
    def unsaved(self) -> str:
        """Why the newest checkpoint could not be written, empty while all is well."""
        return self._archive.failing

    def put_item(self, item: Item) -> None:
        """Learn what the catalogue says of an item; any one thread may call it."""
        self.catalogue.put(item, is_known=bool(self.learning.items.vocabulary.row(item.item_id)))

    def delete_item(self, item_id: str) -> None:
        """Forget what the catalogue says of an item; the same thread may call it."""
        self.catalogue.delete(item_id)

    def forget_catalogue(self) -> None:
        """Forget what the catalogue says of all items; the same thread may call it."""
        self.catalogue.clear()

    def train(self, interests: Sequence[UserInterest], *, behind: int) -> None:
        """Learn the `new` events of each interest; with many events behind them, with less effort on each."""
        self.learning.learn(interests, self.guard, self.spared, behind=behind)
        self._micro_batches += 1
        self._events += sum(len(interest.new) for interest in interests)
        self._judge()

    def contain(self, contains: Mapping[int, int]) -> None:
        """Take note that every record below these offsets of `user-interests` is learned now."""
        if contains:
            # replaced, not changed: a version that was made holds the old one
            self.learning.contains = {**(self.learning.contains or {}), **contains}

    @property
    def serving(self) -> ServingModel:
        """The newest version, as readers see it once it is published."""
        return self.learning.releases.serving

    @property
    def versions(self) -> ModelVersions:
        """The versions that are kept or were refused, and what became of them."""
        return self.lineage.record(drifts=self.learning.drifts)

    def take_update(self, *, whole: bool = False) -> list[bytes]:
        """Return the records of `model-updates` since the last call, perhaps none; with `whole` all that is known.

        A version that fails the check before serving is refused: there is none, and the trainer is condemned.
        """
        if self._unsent:
            records, self._unsent = self._unsent, []
            return records
        learning = self.learning
        # records that held nothing new are learned, too: readers wait for a version that contains them
        says_more = bool(self.serving.version) and (whole or learning.contains != self._told_contains)
        if self.condemned or not (learning.releases.is_due or says_more):
            return []
        version = self.lineage.next_name()
        self.guard.forget(learning.items.renamed)
        changes, records = learning.releases.make(version, learning.learned(self.lineage.rolled_back), whole=whole)
        self._told_contains = learning.contains
        # the network travels in some versions only
        self.condemned = self.guard.fault_of(self.serving, [changes, weights_of(learning.learner.model)])
        if self.condemned:
            _log.error("version refused", version=version, because=self.condemned)
            self.lineage.refuse(version, self.condemned, events=learning.events)
            return []
        return records

    def save(self, admissions: bytes) -> None:
        """Begin to write a checkpoint of all that was learned by now, with the caller's own record of it.

        Whole or not at all it is there when :meth:`wait_until_saved` returns; learning may continue meanwhile.
        """
        self.wait_until_saved()
        number = max([0, *self._archive.numbers, *self.lineage.checkpoints]) + 1
        name = self.lineage.keep(
            self.serving.version, events=self.learning.events, loss=self.guard.loss, checkpoint=number
        )
        if self.lineage.candidate == name:
            self.guard.begin_trial()
        tensors, documents = self.learning.state()
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
        """Return when the checkpoint that was begun is on the disk, or cannot be written: see :attr:`unsaved`."""
        if lost := self._archive.wait():
            self.lineage.lose(lost)

    def can_go_back_to(self, version: str) -> bool:
        """Return whether a version is kept, whole."""
        self.wait_until_saved()
        return self._archive.is_whole(self.lineage.checkpoint_of(version))

    def roll_back(self, version: str | None, because: str) -> bytes:
        """Go on from a version that is kept; see :class:`streamrec.service.ports.Trainer`."""
        self.wait_until_saved()
        version = self._last_whole_good() if version is None else version
        _log.error("rolled back", to=version, served=self.serving.version, events=self.learning.events, because=because)
        good, admissions, learning = Weights(), b"", self._new_learning()
        if version:
            tensors, documents = self._archive.read(self.lineage.checkpoint_of(version))
            learning.load(tensors, documents)
            good, admissions = Weights.of(below("serving", tensors)), documents["admissions"]
        learning.drifts, learning.rolled_back_to = self.learning.drifts, learning.events
        self.learning = learning
        self.condemned = ""
        self.lineage.roll_back(version, because)
        self.guard.go_back(good)
        # what the catalogue said since then is not in the version
        self.catalogue.tell_again(learning.items.vocabulary.row)
        self._unsent = self.take_update()
        return admissions

    def spare(self, events: Fences) -> None:
        """Count these events when they come again, and never train them by gradient."""
        self.spared.join(events)

    def _open(self, number: int, saved: Saved) -> None:
        """Continue from a checkpoint, and from what was known of others when it was written."""
        tensors, documents = saved
        shape, own = json.loads(documents["shape"]), dense_shape(self.config).tolist()
        if shape != own:
            raise StreamrecError(
                f"checkpoint {number} in {self.checkpoints} is of a network of shape {shape}, not {own}: restore "
                "STREAMREC_EMBEDDING_DIM and STREAMREC_SEQUENCE_LENGTH, or move the directory away to begin anew"
            )
        self.learning.load(tensors, documents)
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
        """Return the newest good version that is kept, whole; empty if there is none."""
        while self.lineage.last_good and not self.can_go_back_to(self.lineage.last_good):
            self.lineage.lose(self.lineage.checkpoint_of(self.lineage.last_good))
        return self.lineage.last_good

    def _weights_of(self, version: str) -> Weights | None:
        """Read the weights of a version that is kept, without vectors of items whose rows are others' now.

        One that cannot be read is no longer kept, and there is nothing.
        """
        self.wait_until_saved()
        number = self.lineage.checkpoint_of(version)
        found = self._archive.arrays(number, "serving", "items.vocabulary") if number else None
        if found is None:
            self.lineage.lose(number)
            return None
        arrays, vocabulary = found
        then, now = unpack_ids(vocabulary["ids"])[: len(arrays["vectors"])], self.learning.items.vocabulary.ids
        arrays["vectors"][[row for row, ids in enumerate(zip(then, now, strict=False)) if ids[0] != ids[1]]] = 0.0
        return Weights.of(arrays)

    def _judge(self) -> None:
        """Condemn what serves if it is worse than the last good version, or promote the one on trial."""
        if fault := self.guard.fault(self.lineage.last_good):
            self.condemned = fault
        elif self.lineage.candidate:
            is_good = self.guard.judgement()
            if is_good:
                self._promote()
            elif is_good is not None:
                self.lineage.candidate = ""

    def _promote(self) -> None:
        """Make the version on trial the last good one, unless nobody could go back to it."""
        weights = self._weights_of(self.lineage.candidate)
        if weights is None:
            return
        version = self.lineage.promote()
        self.guard.promote(weights)
        _log.info("version is good", version=version)
