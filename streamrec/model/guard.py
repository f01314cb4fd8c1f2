"""What keeps a bad version from serving, or from serving for long.

Before a version serves it is checked on held events: the newest ones of users whose events are counted and never
trained by gradient. It has to be finite, and must not be far worse than the version that serves was on the same events.

What serves is tested on new events before anything learns them (:mod:`streamrec.model.stacking`), and the last good
version on some of the same events: its network, item vectors and blend, with the counts of today, which a rollback
brings back anyway. Both rank, so that what is compared is the loss of the lists. Where what serves is worse beyond
noise, it has to go; where a version had a full window of events after it and was not worse, it is the last good one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from zlib import crc32

import msgspec
import numpy as np
import torch

from streamrec.domain.interest import SequenceEvent
from streamrec.model.candidates import Context, encode, find, make_context
from streamrec.model.serving import ServingModel, Weights
from streamrec.model.tensors import Arrays

HELD_ONE_IN = 64
"""One user in so many is never trained by gradient, only counted and served."""

HELD_EVENTS = 32
"""The newest events of held users, on which versions are checked before they serve."""

MIN_HELD = 8
"""Fewer held events say nothing."""

FAR_WORSE = 0.5
"""Nats by which a version may be worse on held events than the one before it."""

WINDOW = 2_048
"""Newest events on which what serves is compared with the last good version."""

MIN_COMPARED = 256
"""Fewer events never roll anything back."""

COMPARED_SHARE = 0.25
"""Share of the tested events on which the last good version is tested too."""

WORSE = 0.02
"""Nats that matter: less is not worth a rollback, however sure it is."""

BEYOND_NOISE = 4.0
"""Standard errors. The comparison is looked at after every step, so that two or three would come by chance."""

WORST_LOSS = 10.0
"""Nats, for an item that is no candidate or a score that is no number: a blind guess among 22,000 items."""

NO_WORSE = 2.0
"""Standard errors up to which a version counts as no worse."""


class Held(msgspec.Struct, array_like=True):
    """An event of a held user."""

    sequence: list[SequenceEvent]
    """What came before it, oldest first."""
    item_id: str
    loss: float | None
    """Of the version that served last; `None` where that is not known."""


def is_held(user_id: str) -> bool:
    """Whether a user is never trained by gradient."""
    return crc32(user_id.encode()) % HELD_ONE_IN == 0


class Guard:
    """Checks versions before they serve, and watches the one that does.

    Parameters
    ----------
    hide_seen
        As the ranker hides.
    """

    def __init__(self, *, hide_seen: bool) -> None:
        self.good = Weights()
        """Of the last good version; before there is one, lists by popularity and neighbours alone."""
        self._hide_seen = hide_seen
        self._held: deque[Held] = deque(maxlen=HELD_EVENTS)
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._differences: deque[float] = deque(maxlen=WINDOW)
        """Loss of what served less that of the last good version, oldest first."""
        self._on_trial = 0
        """Compared events since there is a candidate."""

    @property
    def loss(self) -> float | None:
        """Mean loss of what served on the newest compared events, in nats."""
        return float(np.mean(self._losses)) if self._losses else None

    def hold(self, serving: ServingModel, sequence: Sequence[SequenceEvent], index: int) -> None:
        """Keep an event of a held user, `sequence[index]`, for the check of later versions."""
        before, item_id = list(sequence[:index]), sequence[index].item_id
        known = serving.version and self._losses_of(serving, [make_context(serving, before)], [serving.row(item_id)])
        self._held.append(Held(before, item_id, known[0] if known else None))

    def fault_of(self, candidate: ServingModel, weights: Sequence[Mapping[str, np.ndarray]]) -> str:
        """Say why a version must not serve, nothing if it may.

        Parameters
        ----------
        candidate
            The version.
        weights
            All arrays by name that must be finite.
        """
        for arrays in weights:
            for name, value in arrays.items():
                if value.dtype.kind == "f" and not np.isfinite(value).all():
                    return f"{name} is not finite"
        if not self._held:
            return ""
        contexts = [make_context(candidate, held.sequence) for held in self._held]
        losses = self._losses_of(candidate, contexts, [candidate.row(held.item_id) for held in self._held])
        known = [(loss, held.loss) for loss, held in zip(losses, self._held, strict=True) if held.loss is not None]
        if len(known) >= MIN_HELD:
            mean, error = _mean_and_error(np.array([loss - before for loss, before in known]))
            if mean > FAR_WORSE and mean > BEYOND_NOISE * error:
                return f"loss on {len(known)} held events is {mean:.2f} above that of the version before it"
        for held, loss in zip(self._held, losses, strict=True):
            held.loss = loss
        return ""

    def compare(
        self,
        serving: ServingModel,
        contexts: Sequence[Context],
        target_rows: Sequence[int],
        losses: Sequence[float | None],
    ) -> None:
        """Test the last good version on events of which the loss of what serves is known, `None` for no candidate."""
        if not serving.version:
            return
        served = [WORST_LOSS if loss is None else _bounded(loss) for loss in losses]
        self.good = self.good.grown(*serving.vectors.shape)
        good = self._losses_of(serving.with_weights(self.good), contexts, target_rows)
        self._losses.extend(served)
        self._differences.extend(mine - other for mine, other in zip(served, good, strict=True))
        self._on_trial += len(served)

    def fault(self, last_good: str) -> str:
        """Say why what serves must go, nothing if it may stay."""
        if len(self._differences) < MIN_COMPARED:
            return ""
        mean, error = _mean_and_error(np.array(self._differences))
        if mean > WORSE and mean > BEYOND_NOISE * error:
            events = len(self._differences)
            return f"loss is {mean:.2f} above that of {last_good or 'no network'} on {events} events"
        return ""

    def begin_trial(self) -> None:
        """Begin the trial of a version: compared events count from here."""
        self._on_trial = 0

    def judgement(self) -> bool | None:
        """Return whether the version on trial is no worse than the last good one, `None` while that is open.

        The first one, which stands against no network at all, need not wait for a full window if it is better beyond
        noise: nobody would want to go back that far.
        """
        if self._on_trial < MIN_COMPARED or (self._on_trial < WINDOW and self.good.encoder is not None):
            return None
        mean, error = _mean_and_error(np.array(self._differences)[-self._on_trial :])
        if self._on_trial >= WINDOW:
            return mean <= max(NO_WORSE * error, 0.0)
        return True if mean < -BEYOND_NOISE * error else None

    def promote(self, good: Weights) -> None:
        """Compare with another version from now on."""
        self.good = good
        self._differences.clear()
        self._on_trial = 0

    def go_back(self, good: Weights) -> None:
        """Compare with the version that was rolled back to, which serves now.

        Held events stay. What their losses were does not: the version that serves is older, and need not reach them.
        """
        self.promote(good)
        self._losses.clear()
        for held in self._held:
            held.loss = None

    def state(self) -> tuple[Arrays, bytes]:
        """Return everything but the good version, for a checkpoint."""
        arrays = {
            "losses": np.array(self._losses, np.float64),
            "differences": np.array(self._differences, np.float64),
            "on_trial": np.array([self._on_trial]),
        }
        return arrays, msgspec.json.encode(list(self._held))

    def load(self, arrays: Arrays, held: bytes) -> None:
        """Become what :meth:`state` returned."""
        self._losses.extend(arrays["losses"].tolist())
        self._differences.extend(arrays["differences"].tolist())
        self._on_trial = int(arrays["on_trial"][0])
        self._held.extend(msgspec.json.decode(held, type=list[Held]))

    def _losses_of(self, model: ServingModel, contexts: Sequence[Context], target_rows: Sequence[int]) -> list[float]:
        """Return the cross-entropy of each event's item among the candidates, at most that of a blind guess."""
        if not contexts:
            return []
        found = find(model, contexts, encode(model, contexts), hide_seen=self._hide_seen)
        with torch.inference_mode():
            scores = model.blend(torch.from_numpy(found.features))
            parts = [part.log_softmax(0).numpy() for part in scores.split(np.diff(found.starts).tolist())]
        places = found.places(np.asarray(target_rows)) - found.starts[:-1]
        return [
            _bounded(-float(part[place])) if row and place >= 0 else WORST_LOSS
            for part, place, row in zip(parts, places.tolist(), target_rows, strict=True)
        ]


def _bounded(loss: float) -> float:
    return min(loss, WORST_LOSS) if math.isfinite(loss) else WORST_LOSS


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
