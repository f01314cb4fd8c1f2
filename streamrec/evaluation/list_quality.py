"""What the channels contribute to lists, how different the items of a list are, and how well it matches its user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from streamrec.evaluation.metrics import CUTOFF, calibration, intra_list_distance
from streamrec.model.ranking.candidates import Described
from streamrec.model.ranking.serving import ServingModel
from streamrec.model.retrievers.weighed import places_among

AMONG = 100
"""Length of the lists in which items are looked for."""


class ChannelRecall(Struct, kw_only=True):
    """Share of events whose item a channel finds."""

    recall_at_100: float
    """It is among the first 100 of a list that is made of this channel's candidates alone."""
    added_recall_at_100: float
    """It is among the first 100 of the whole list, and no other channel found it, nor had the user seen it."""


class ListQuality:
    """Means over lists.

    Attributes
    ----------
    distances, calibrations
        Of each list for which they are defined.
    """

    def __init__(self) -> None:
        self.distances: list[float] = []
        self.calibrations: list[float] = []
        self._events = 0
        self._alone: dict[str, int] = {}
        self._added: dict[str, int] = {}

    def add(
        self, model: ServingModel, found: Described, lists: Sequence[Sequence[str]], item_ids: Sequence[str]
    ) -> None:
        """Add the lists of some users, and the items of their next events.

        Parameters
        ----------
        found
            The candidates of the lists.
        lists
            Item ids of each user's list, best first.
        item_ids
            Item of each user's event, empty if the event is no target.
        """
        self._events += sum(map(bool, item_ids))
        self._add_channels(model, found, np.array([model.row(item_id) for item_id in item_ids]))
        users = found.users
        begins = [0, *users.ends[:-1].tolist()]
        for listed, begin, end in zip(lists, begins, users.ends.tolist(), strict=True):
            rows = np.array([row for item_id in listed[:CUTOFF] if (row := model.row(item_id))], np.int64)
            if len(rows) > 1:
                self.distances.append(intra_list_distance(model.vectors.take(rows)))
            of_user, of_list = users.categories[begin:end], model.category[rows]
            if of_user.any() and of_list.any():
                self.calibrations.append(calibration(of_user[of_user > 0], of_list[of_list > 0]))

    def channels(self) -> dict[str, ChannelRecall]:
        """Return the recall of each channel."""
        return {
            name: ChannelRecall(
                recall_at_100=round(self._alone[name] / max(self._events, 1), 5),
                added_recall_at_100=round(self._added[name] / max(self._events, 1), 5),
            )
            for name in self._alone
        }

    def _add_channels(self, model: ServingModel, found: Described, target_rows: np.ndarray) -> None:
        candidates, starts = found.candidates, found.candidates.starts
        targets = np.where(target_rows > 0, candidates.places(target_rows), -1)
        scores = model.blend.scores(found.features)
        of_own = np.zeros(len(scores), bool)
        own = places_among(candidates, found.users.ends, found.users.rows)
        of_own[own[own >= 0]] = True
        members = {}
        for retriever, retrieval in zip(model.retrievers, found.retrievals, strict=True):
            places = places_among(candidates, retrieval.found.ends, retrieval.found.rows)
            members[retriever.name] = np.zeros(len(scores), bool)
            members[retriever.name][places[places >= 0]] = True
        finders = sum(members.values(), start=of_own.astype(np.int64))
        for name, is_member in members.items():
            alone = added = 0
            for user in np.flatnonzero(targets >= 0).tolist():
                its, target = slice(starts[user], starts[user + 1]), targets[user]
                better = scores[its] > scores[target]
                alone += bool(is_member[target] and (better & is_member[its]).sum() < AMONG)
                added += bool(is_member[target] and finders[target] == 1 and better.sum() < AMONG)
            self._alone[name] = self._alone.get(name, 0) + alone
            self._added[name] = self._added.get(name, 0) + added
