"""The recall channels by name: those of this package, and those that other packages declare as entry points.

A package offers a channel by the entry point group `streamrec.retrievers`: the name of the channel and the class of its
retriever.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points

from streamrec.environment import variable_name
from streamrec.errors import SettingsError
from streamrec.model.retrievers.autoencoder import AutoencoderRetriever
from streamrec.model.retrievers.category import CategoryRetriever
from streamrec.model.retrievers.context import ContextRetriever
from streamrec.model.retrievers.factors import FactorsRetriever
from streamrec.model.retrievers.linear import LinearRetriever
from streamrec.model.retrievers.neighbour import NeighbourRetriever
from streamrec.model.retrievers.popular import PopularRetriever
from streamrec.model.retrievers.retriever import Retriever
from streamrec.model.retrievers.sequence import SequenceRetriever
from streamrec.model.retrievers.session import SessionRetriever
from streamrec.model.retrievers.title import TitleRetriever

GROUP = "streamrec.retrievers"

DEFAULT = ("neighbour", "session", "category", "title", "popular", "context", "model")
"""Names of the channels that are on by default."""

BUILT_IN = {
    retriever.name: retriever
    for retriever in (
        NeighbourRetriever,
        SessionRetriever,
        LinearRetriever,
        FactorsRetriever,
        AutoencoderRetriever,
        CategoryRetriever,
        TitleRetriever,
        PopularRetriever,
        ContextRetriever,
        SequenceRetriever,
    )
}


@cache
def channel(name: str) -> type[Retriever]:
    """Return the retriever of a channel.

    Raises
    ------
    LookupError
        If no installed package has it.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    others = entry_points(group=GROUP)
    if name not in others.names:
        known = ", ".join(sorted({*BUILT_IN, *others.names}))
        raise LookupError(f"no installed package has the channel {name!r}; known: {known}")
    found: type[Retriever] = others[name].load()
    return found


def channels_in(setting: str) -> list[str]:
    """Return the names of channels in a setting, each once.

    Raises
    ------
    SettingsError
        If no installed package has one of them.
    """
    names = list(dict.fromkeys(setting.split(",")))
    try:
        for name in names:
            channel(name)
    except LookupError as error:
        raise SettingsError(f"{variable_name('channels')}: {error.args[0]}") from None
    return names


def retrievers_of(names: Iterable[str]) -> tuple[Retriever, ...]:
    """Return a new retriever of each channel.

    Raises
    ------
    LookupError
        If no installed package has one of them.
    """
    return tuple(channel(name)() for name in names)
