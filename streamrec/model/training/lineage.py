"""Names and status of a trainer's versions: which are kept, and which is the last good one.

A name consists of the lineage, eight random hexadecimal digits that are new at every start and every rollback, and a
number that continues from the version that the lineage continues from: names are unique.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection

import msgspec

from streamrec.contracts.model_version import ModelVersion, ModelVersions, Status

KEPT_NEWEST = 3
"""Number of the latest checkpoints to keep, whatever their status."""

KEPT_GOOD = 2
"""Number of the latest good versions to keep,"""

KEPT_HOURLY = 2
KEPT_DAILY = 2
"""and number of earlier hours and days of which to keep the latest good version."""

KEPT_ASIDE = 2
"""Number of the latest rolled back versions whose checkpoints are kept for inspection."""

REMEMBERED = 16
"""Number of versions without a checkpoint in the list."""

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


class Lineage:
    """Names versions, and stores the status of the latest and the kept ones.

    Attributes
    ----------
    versions
        Versions, oldest first.
    candidate
        The version on trial, empty if none.
    went_on_from
        The version rolled back to, until the next one is kept.
    """

    def __init__(self) -> None:
        self.versions: list[ModelVersion] = []
        self.candidate = ""
        self.went_on_from = ""
        self.refused = self.rolled_back = 0
        self._number = 0
        self._name = uuid.uuid4().hex[:8]

    @property
    def last_good(self) -> str:
        """The latest good version that is kept, empty if there is none."""
        good = (version.name for version in reversed(self.versions) if version.status == "good" and version.checkpoint)
        return next(good, "")

    def next_name(self) -> str:
        """Return a new name."""
        self._number += 1
        return f"{self._name}-{self._number}"

    def checkpoint_of(self, name: str) -> int:
        """Return the number of a version's checkpoint, 0 if it has none."""
        return next((version.checkpoint for version in self.versions if version.name == name), 0)

    @property
    def checkpoints(self) -> list[int]:
        """Numbers of the kept checkpoints."""
        return [version.checkpoint for version in self.versions if version.checkpoint]

    def keep(self, name: str, *, events: int, loss: float | None, checkpoint: int) -> str:
        """Add a checkpoint, and return its name; versions that are no longer kept lose theirs."""
        if not name or any(version.name == name for version in self.versions):
            name = self.next_name()  # nothing was published, or training continued since
        self._add(name, "new", events=events, loss=loss, checkpoint=checkpoint)
        if not self.candidate:
            self.candidate = name
        self.went_on_from = ""
        kept = self._kept()
        self.versions = [
            version if version.name in kept else msgspec.structs.replace(version, checkpoint=0)
            for version in self.versions
        ]
        remembered = [version.name for version in self.versions if version.name not in kept][-REMEMBERED:]
        self.versions = [version for version in self.versions if version.name in kept or version.name in remembered]
        return name

    def lose(self, checkpoint: int) -> None:
        """Mark a checkpoint as failed or unreadable."""
        lost = {version.name for version in self.versions if version.checkpoint == checkpoint}
        self.versions = [
            msgspec.structs.replace(version, checkpoint=0) if version.name in lost else version
            for version in self.versions
        ]
        self.candidate = "" if self.candidate in lost else self.candidate

    def refuse(self, name: str, because: str, *, events: int) -> None:
        """Add a version that failed the check before serving."""
        self.refused += 1
        self._add(name, "refused", events=events, because=because)

    def promote(self) -> str:
        """Make the candidate the last good version, and return its name."""
        name, self.candidate = self.candidate, ""
        self._mark({name}, "good")
        return name

    def roll_back(self, name: str, because: str) -> None:
        """Start a new lineage that continues from a version; an empty name means from scratch."""
        self.rolled_back += 1
        names = [version.name for version in self.versions]
        self._mark(set(names[names.index(name) + 1 if name else 0 :]), "rolled back", because)
        self._mark({name}, "good")
        self.candidate, self.went_on_from = "", name
        self._name = uuid.uuid4().hex[:8]

    def record(self, *, drifts: int) -> ModelVersions:
        """Return the record of `model-versions`."""
        newest = next((version.name for version in reversed(self.versions) if version.checkpoint), "")
        return ModelVersions(
            versions=[
                msgspec.structs.replace(version, status="serving")
                if version.name == newest and version.status == "new"
                else version
                for version in self.versions
            ],
            refused=self.refused,
            rolled_back=self.rolled_back,
            drifts=drifts,
        )

    def state(self) -> bytes:
        """Return the state as JSON, for a checkpoint."""
        return msgspec.json.encode((self.versions, self.candidate, self.refused, self.rolled_back, self._number))

    def load(self, state: bytes, checkpoints: Collection[int]) -> None:
        """Restore what :meth:`state` returned, under a new name; missing checkpoints are no longer kept."""
        self.versions, self.candidate, self.refused, self.rolled_back, self._number = msgspec.json.decode(
            state, type=tuple[list[ModelVersion], str, int, int, int]
        )
        gone = {version.name for version in self.versions if version.checkpoint not in {0, *checkpoints}}
        self.versions = [
            msgspec.structs.replace(version, checkpoint=0) if version.name in gone else version
            for version in self.versions
        ]
        self.candidate = "" if self.candidate in gone else self.candidate

    def _add(
        self,
        name: str,
        status: Status,
        *,
        events: int,
        loss: float | None = None,
        checkpoint: int = 0,
        because: str = "",
    ) -> None:
        self.versions.append(
            ModelVersion(
                name=name,
                made_at_ms=time.time_ns() // 1_000_000,
                events=events,
                status=status,
                loss=None if loss is None else round(loss, 4),
                checkpoint=checkpoint,
                went_on_from=self.went_on_from,
                because=because,
            )
        )

    def _mark(self, names: Collection[str], status: Status, because: str = "") -> None:
        self.versions = [
            msgspec.structs.replace(version, status=status, because=because)
            if version.name in names and version.status != "refused"
            else version
            for version in self.versions
        ]

    def _kept(self) -> set[str]:
        """Return the names of the versions whose checkpoints are kept."""
        held = [version for version in self.versions if version.checkpoint]
        good = [version for version in held if version.status == "good"]
        aside = [version.name for version in held if version.status == "rolled back"]
        newest = [version.name for version in held if version.status != "rolled back"][-KEPT_NEWEST:]
        older = good[:-KEPT_GOOD]
        return {
            self.candidate,
            *newest,
            *aside[-KEPT_ASIDE:],
            *(version.name for version in good[-KEPT_GOOD:]),
            *_newest_of_each(older, _HOUR_MS, KEPT_HOURLY),
            *_newest_of_each(older, _DAY_MS, KEPT_DAILY),
        }


def _newest_of_each(versions: list[ModelVersion], span_ms: int, spans: int) -> list[str]:
    """Return the latest version of each of the latest time spans that have one."""
    newest = {version.made_at_ms // span_ms: version.name for version in versions}
    return list(newest.values())[-spans:]
