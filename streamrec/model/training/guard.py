"""Guard against bad versions.

Before a version serves it is checked on held-out events: the latest ones of users whose events are counted but never
trained on by gradient. It must be finite, and not much worse than the last good version.

The serving version is tested on new events before they are learned (:mod:`streamrec.model.training.stacking`), and the
last good version on some of the same events. If the serving version is significantly worse, it is rolled back; a
version that is no worse over a full window of events becomes the last good one.

The last good version is always compared with its network, item vectors and blend, but current counts: a rollback
restores counts anyway, and lists age by the hour, which is unrelated to the version.

Two losses are compared. The loss of the lists is what users see; but the blend soon learns to ignore a useless network,
and popularity masks the damage. So the loss of the network alone is compared, too, among items for which the last good
version has a vector.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from zlib import crc32

import msgspec
import numpy as np

from streamrec.domain.interest import SequenceEvent
from streamrec.model.ranking.candidates import encode, find
from streamrec.model.ranking.context import Context, make_context
from streamrec.model.ranking.lists import log_softmax
from streamrec.model.ranking.serving import ServingModel, Weights
from streamrec.model.ranking.updates import not_finite
from streamrec.model.tensors import Arrays

HELD_ONE_IN = 64
"""One user in this many is held out: counted and served, but never trained on by gradient."""

HELD_EVENTS = 32
"""Number of held-out users whose latest event is used to check versions before they serve."""

MIN_HELD = 8
"""Minimum number of held-out events for a check."""

FAR_WORSE = 1.5
"""Nats by which a version may be worse on held-out events than the last good one. These are minutes old: lists that
follow the latest trends may be worse for them, by 0.99 nats once in 130,000 events of news."""

WINDOW = 1_024
"""Number of the latest events on which the serving version is compared with the last good one."""

MIN_COMPARED = 256
"""Minimum number of events for a rollback. The latest events, this many, are also compared separately, so that good
earlier ones do not mask them."""

COMPARED_SHARE = 0.25
"""Share of the tested events on which the last good version is tested, too."""

WORSE = 0.02
"""Minimum effect in nats: less is not worth a rollback, however significant."""

BEYOND_NOISE = 4.0
"""Standard errors. Since the comparison is repeated after every step, two or three would occur by chance."""

SAMPLED_ITEMS = 256
"""Number of items, spread evenly over those of the last good version, against which the network ranks the event's
item."""

MIN_KNOWN = 64
"""Minimum number of compared events on items known to the last good version, for comparing the network."""

LOSSES = ("lists", "network")

WORST_LOSS = 10.0
"""Loss in nats for an item that is not a candidate, or a NaN score: a random guess among 22,000 items."""

NO_WORSE = 2.0
"""Standard errors within which a version counts as no worse."""


class Held(msgspec.Struct, array_like=True):
    """The latest event of a held-out user."""

    user_id: str
    sequence: list[SequenceEvent]
    """Earlier events, oldest first."""
    item_id: str


def is_held(user_id: str) -> bool:
    """Whether a user is held out."""
    return crc32(user_id.encode()) % HELD_ONE_IN == 0


class Guard:
    """Checks versions before they serve, and monitors the serving one.

    Parameters
    ----------
    hide_seen
        As for the ranker.
    """

    def __init__(self, *, hide_seen: bool) -> None:
        self.good = Weights()
        self._hide_seen = hide_seen
        self._held: dict[str, Held] = {}
        """Held-out events by user, oldest first."""
        self._losses: deque[float] = deque(maxlen=WINDOW)
        """Losses of served lists, oldest first."""
        self._differences: deque[np.ndarray] = deque(maxlen=WINDOW)
        """Differences of both losses between the serving version and the last good one."""
        self._on_trial = 0
        """Number of compared events since the start of the trial."""

    @property
    def good(self) -> Weights:
        """Weights of the last good version; before there is one, lists use only popularity and neighbours."""
        return self._good

    @good.setter
    def good(self, good: Weights) -> None:
        self._good = good
        self._known_rows = np.flatnonzero(good.vectors.steps > 0)

    def forget(self, rows: Iterable[int]) -> None:
        """Clear these rows of the last good version: they were reassigned to other items."""
        vectors, given = self._good.vectors, np.fromiter(rows, np.int64)
        given = given[given < len(vectors.steps)]
        forgotten = given[vectors.steps[given] > 0]
        if not len(forgotten):
            return
        vectors.clear(forgotten)
        self._known_rows = np.setdiff1d(self._known_rows, forgotten)

    @property
    def loss(self) -> float | None:
        """Mean loss of served lists on the latest compared events, in nats."""
        return float(np.mean(self._losses)) if self._losses else None

    def hold(self, user_id: str, sequence: Sequence[SequenceEvent], index: int) -> None:
        """Store the latest event of a held-out user, `sequence[index]`, for checking later versions."""
        self._held.pop(user_id, None)
        self._held[user_id] = Held(user_id, list(sequence[:index]), sequence[index].item_id)
        if len(self._held) > HELD_EVENTS:
            del self._held[next(iter(self._held))]

    def fault_of(self, candidate: ServingModel, weights: Sequence[Mapping[str, np.ndarray]]) -> str:
        """Return why a version must not serve; empty if it may.

        Parameters
        ----------
        candidate
            The version.
        weights
            Arrays by name that must be finite.
        """
        for arrays in weights:
            if broken := not_finite(arrays):
                return f"{broken} is not finite"
        if len(self._held) < MIN_HELD:
            return ""
        contexts = [make_context(candidate, held.sequence, hide_seen=self._hide_seen) for held in self._held.values()]
        target_rows = [candidate.row(held.item_id) for held in self._held.values()]
        losses = self._losses_of(candidate, contexts, target_rows)
        than_good = losses - self._losses_of_good(candidate, contexts, target_rows)
        for name, differences in self._looked_at(than_good, least=MIN_HELD):
            mean, error = _mean_and_error(differences)
            if mean > FAR_WORSE and mean > BEYOND_NOISE * error:
                return (
                    f"the loss of its {name} on {len(differences)} held-out events is {mean:.2f} above the good one's"
                )
        return ""

    def compare(
        self,
        serving: ServingModel,
        contexts: Sequence[Context],
        hidden: np.ndarray,
        target_rows: Sequence[int],
        losses: Sequence[float | None],
    ) -> None:
        """Test the last good version on events on which the serving version was tested.

        Parameters
        ----------
        hidden
            User vectors of the serving version, `(B, D)`.
        losses
            Losses of its lists, `None` if the event's item was not a candidate.
        """
        if not serving.version:
            return
        good = self._losses_of_good(serving, contexts, target_rows)
        served = np.array([WORST_LOSS if loss is None else _bounded(loss) for loss in losses])
        network = self._network_losses(serving, hidden, target_rows)
        self._losses.extend(served.tolist())
        self._differences.extend(np.column_stack([served, network]) - good)
        self._on_trial += len(served)

    def fault(self, last_good: str) -> str:
        """Return why the serving version must be rolled back; empty if not."""
        if len(self._differences) < MIN_COMPARED:
            return ""
        all_of_them = np.array(self._differences)
        for part in (all_of_them, all_of_them[-MIN_COMPARED:]):
            for name, differences in self._looked_at(part, least=MIN_KNOWN):
                mean, error = _mean_and_error(differences)
                if mean > WORSE and mean > BEYOND_NOISE * error:
                    than = f"that of {last_good}" if last_good else "that without a network"
                    return f"the loss of its {name} is {mean:.2f} above {than} on {len(part)} events"
        return ""

    def begin_trial(self) -> None:
        """Start the trial of a version: compared events count from here."""
        self._on_trial = 0

    def judgement(self) -> bool | None:
        """Return whether the version on trial is no worse than the last good one, `None` while undecided.

        The first one, compared with no network at all, need not wait for a full window if it is significantly better.
        """
        if self._on_trial < MIN_COMPARED or (self._on_trial < WINDOW and self.good.encoder is not None):
            return None
        newest = np.array(self._differences)[-self._on_trial :]
        tested = [_mean_and_error(differences) for _, differences in self._looked_at(newest, least=MIN_KNOWN)]
        if self._on_trial >= WINDOW:
            return all(mean <= NO_WORSE * error for mean, error in tested)
        return True if all(mean < -BEYOND_NOISE * error for mean, error in tested) else None

    def promote(self, good: Weights) -> None:
        """Set the last good version."""
        self.good = good
        self._differences.clear()
        self._on_trial = 0

    def go_back(self, good: Weights) -> None:
        """Set the version that was rolled back to, which serves now, as the last good one.

        Held-out events are cleared: they may have caused the rollback and must not cause another.
        """
        self.promote(good)
        self._losses.clear()
        self._held.clear()

    def state(self) -> tuple[Arrays, bytes]:
        """Return the state without the good version, for a checkpoint."""
        arrays = {
            "losses": np.array(self._losses, np.float64),
            "differences": np.array(self._differences, np.float64).reshape(-1, len(LOSSES)),
            "on_trial": np.array([self._on_trial]),
        }
        return arrays, msgspec.json.encode(list(self._held.values()))

    def load(self, arrays: Arrays, held: bytes) -> None:
        """Restore what :meth:`state` returned."""
        self._losses.extend(arrays["losses"].tolist())
        self._differences.extend(arrays["differences"])
        self._on_trial = int(arrays["on_trial"][0])
        self._held = {each.user_id: each for each in msgspec.json.decode(held, type=list[Held])}

    def _looked_at(self, differences: np.ndarray, *, least: int) -> list[tuple[str, np.ndarray]]:
        """Return the relevant losses by name, if based on enough events.

        Without a good version, the network may be bad.
        """
        of_lists, of_network = differences.T
        of_network = of_network[~np.isnan(of_network)]
        network_counts = self.good.encoder is not None and len(of_network) >= least
        return list(zip(LOSSES, [of_lists, of_network] if network_counts else [of_lists], strict=False))

    def _losses_of_good(
        self, today: ServingModel, contexts: Sequence[Context], target_rows: Sequence[int]
    ) -> np.ndarray:
        """Return the losses of the last good version with the counts of another version, `(B, 2)`."""
        self._good = self._good.grown(*today.vectors.codes.shape)
        return self._losses_of(today.with_weights(self.good), contexts, target_rows)

    def _losses_of(self, model: ServingModel, contexts: Sequence[Context], target_rows: Sequence[int]) -> np.ndarray:
        """Return the losses of lists and network for each event, `(B, 2)`."""
        hidden = encode(model, contexts)
        found = find(model, contexts, hidden)
        likely = log_softmax(model.blend.scores(found.features), found.candidates)
        places = found.candidates.places(np.asarray(target_rows))
        lists = [
            _bounded(-float(likely[place])) if row and place >= 0 else WORST_LOSS
            for place, row in zip(places.tolist(), target_rows, strict=True)
        ]
        return np.column_stack([lists, self._network_losses(model, hidden, target_rows)])

    def _network_losses(self, model: ServingModel, hidden: np.ndarray, target_rows: Sequence[int]) -> np.ndarray:
        """Return the cross-entropy of each event's item by the network alone, NaN if unknown to the good version.

        It is computed against a sample of the items known to the last good version, `(B,)`.
        """
        known, rows = self._known_rows, np.asarray(target_rows)
        if not len(known):
            return np.full(len(rows), np.nan)
        others = known[np.linspace(0, len(known) - 1, SAMPLED_ITEMS).astype(np.int64)]
        temperature = math.exp(model.dense["dense.log_temperature"].item()) if model.dense else 1.0
        positive = (hidden * model.vectors.take(rows)).sum(1, keepdims=True) / temperature
        negative = hidden @ model.vectors.take(others).T / temperature
        losses = np.logaddexp.reduce(np.column_stack([positive, negative]), axis=1) - positive[:, 0]
        bounded = np.where(np.isfinite(losses), np.minimum(losses, WORST_LOSS), WORST_LOSS)
        return np.where(np.isin(rows, known), bounded, np.nan)


def _bounded(loss: float) -> float:
    return min(loss, WORST_LOSS) if math.isfinite(loss) else WORST_LOSS


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Return mean and standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
