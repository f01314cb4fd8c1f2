"""Makes lists from interest states: the single use case for everything that needs lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

from streamrec.contracts.derived import TopKList, UserInterest
from streamrec.contracts.listed_items import ListedItems
from streamrec.domain.arms import CONTROL
from streamrec.domain.feedback import WEIGHTS, Weights
from streamrec.service.list_aging import hide
from streamrec.service.list_ports import Ranker


class ListMaker:
    """Makes lists; thread-safe.

    Parameters
    ----------
    ranker
        Selects and orders items.
    top_k
        Items in a list.
    arm_of
        Assigns the arm of a user.
    now_ms
        The clock, Unix milliseconds.
    weights
        Weight of each kind of event in stored states that lists are made from.
    """

    def __init__(
        self,
        ranker: Ranker,
        *,
        top_k: int,
        arm_of: Callable[[str], str],
        now_ms: Callable[[], int],
        weights: Weights = WEIGHTS,
    ) -> None:
        self.ranker = ranker
        self.top_k = top_k
        self._arm_of = arm_of
        self.now_ms = now_ms
        self.weights = weights

    def make(self, interests: Sequence[UserInterest], *, rebuilt: bool = False) -> list[TopKList]:
        """Return a list for each interest state.

        Parameters
        ----------
        rebuilt
            Whether the lists replace earlier ones made from the same states.
        """
        # read before ranking: a version that starts to serve meanwhile did not make all of these lists
        version = self.ranker.model_version
        by_arm: dict[str, list[UserInterest]] = {}
        for interest in interests:
            by_arm.setdefault(self._arm_of(interest.user_id), []).append(interest)
        return [
            self._list(interest, items, arm, version, rebuilt=rebuilt)
            for arm, members in by_arm.items()
            for interest, items in zip(members, self._rank(arm, members), strict=True)
        ]

    def _rank(self, arm: str, interests: Sequence[UserInterest]) -> list[ListedItems]:
        rank = self.ranker.popular if arm == CONTROL else self.ranker.rank
        return rank(interests, k=self.top_k)

    def _list(self, interest: UserInterest, items: ListedItems, arm: str, version: str, *, rebuilt: bool) -> TopKList:
        return TopKList(
            state_version=interest.state_version,
            list_id=list_id(interest.user_id, interest.state_version, interest.event_time_ms, interest.events_count),
            user_id=interest.user_id,
            items=items,
            model_version=version,
            arm=arm,
            event_time_ms=interest.event_time_ms,
            produced_at_ms=interest.produced_at_ms,
            made_at_ms=self.now_ms(),
            rebuilt=rebuilt,
            hidden=hide(interest.hidden(seen=self.ranker.hide_seen)),
        )


def list_id(*parts: object) -> str:
    """Derive the id of a list from its source: a list made again has the same id."""
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=12).hexdigest()
