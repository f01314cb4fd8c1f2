"""What a model learns and how it lists, from the settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

from streamrec.model.retrievers.channels import DEFAULT, channels_in
from streamrec.settings import Settings


class Rules(NamedTuple):
    """What a model learns and how it lists.

    Attributes
    ----------
    hide_seen
        Whether lists hide seen items.
    admit_after
        Events of an item before its embedding is trained.
    channels
        Names of the recall channels.
    seed
        Random seed: the same interests in the same steps give the same model.
    """

    hide_seen: bool
    admit_after: int = 1
    channels: Sequence[str] = DEFAULT
    seed: int = 0

    @classmethod
    def of(cls, settings: Settings, *, seed: int = 0) -> Self:
        """Return the rules in settings.

        Raises
        ------
        SettingsError
            If no installed package has one of the channels.
        """
        return cls(settings.hide_seen, settings.admit_after, channels_in(settings.channels), seed)
