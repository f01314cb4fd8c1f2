"""Options for reading files of past events, shared by all commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from streamrec.adapters.event_files import FORMATS, TIME_UNITS, EventFile, FileOptions, FileTally
from streamrec.cli.output import say
from streamrec.errors import UsageError

T = TypeVar("T")

Data = Annotated[Path, typer.Option("--data", help="A file of past events, or its folder; see `streamrec replay`.")]
Format = Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}; detected by default.")]
Columns = Annotated[
    str, typer.Option("--columns", help="Column of each field: user_id=visitorid,item_id=sku,timestamp=at.")
]
Types = Annotated[
    str, typer.Option("--map", help="Meaning of event types: addtocart=add_to_cart,4=purchase,shown=impression.")
]
EventType = Annotated[str, typer.Option("--event-type", help="Event type of all rows, if there is no such column.")]
Separator = Annotated[str, typer.Option("--separator", help="Column separator of text files: ';', '::', '\\t'.")]
Header = Annotated[
    bool,
    typer.Option("--header/--no-header", help="Whether the first line names the columns, else 1, 2, 3 …"),
]
TimeUnit = Annotated[
    str, typer.Option("--time-unit", help=f"Unit of numeric times: {', '.join(TIME_UNITS)}; detected by default.")
]
BestRating = Annotated[
    float | None,
    typer.Option("--best-rating", min=0.1, help="The best rating of the scale; 1, 5, 10 or 100 by default, as fits."),
]

_OPTIONS: dict[str, tuple[Any, Any]] = {
    "format_": (Format, ""),
    "columns": (Columns, ""),
    "types": (Types, ""),
    "event_type": (EventType, ""),
    "separator": (Separator, ""),
    "header": (Header, True),
    "time_unit": (TimeUnit, ""),
    "best_rating": (BestRating, None),
}


@dataclass(frozen=True, slots=True)
class EventSource:
    """A file of events given on the command line, and the options for reading it.

    Parameters
    ----------
    path
        The file or its folder.
    options
        Options given for it.
    """

    path: Path
    options: FileOptions

    def open(self) -> EventFile:
        """Open the file, and print on standard error what was detected about its format."""
        file = EventFile.open(self.path, self.options)
        if file.reader.said:
            say(f"{file.path}: {file.reader.said}")
        return file


def reads_events(place: Any, default: Any = inspect.Parameter.empty) -> Callable[[Callable[..., T]], Callable[..., T]]:  # noqa: ANN401
    """Add the options for event files to a command, in place of its parameter `source`.

    Parameters
    ----------
    place
        Annotation of the parameter that names the file.
    default
        Its value if it is not given; the command then gets `None` as its source.
    """

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        own = inspect.signature(command, eval_str=True).parameters.values()
        name = "file" if default is inspect.Parameter.empty and place.__metadata__[0].param_decls is None else "data"
        keyword = inspect.Parameter.KEYWORD_ONLY
        first = inspect.Parameter(name, keyword, default=default, annotation=place)
        added = [
            inspect.Parameter(option, keyword, default=value, annotation=annotation)
            for option, (annotation, value) in _OPTIONS.items()
        ]
        parameters = [first, *(p.replace(kind=keyword) for p in own if p.name != "source"), *added]

        def run(**given: Any) -> T:  # noqa: ANN401  # as typer read them
            path, said = given.pop(name), {option: given.pop(option) for option in _OPTIONS}
            options = file_options(said)
            return command(source=None if path is None else EventSource(path, options), **given)

        run.__doc__, run.__name__ = command.__doc__, command.__name__
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def file_options(said: dict[str, Any]) -> FileOptions:
    """Return options as given.

    Raises
    ------
    UsageError
        If one of them is unknown.
    """
    for name, known in (("format_", FORMATS), ("time_unit", tuple(TIME_UNITS))):
        if said[name] and said[name] not in known:
            option = name.strip("_").replace("_", "-")
            raise UsageError(f"--{option}: unknown value {said[name]!r}; choose from {', '.join(known)}")
    return FileOptions(
        format=said["format_"],
        columns=_pairs("--columns", said["columns"]),
        types=_pairs("--map", said["types"]),
        event_type=said["event_type"],
        separator=said["separator"].replace("\\t", "\t"),
        header=said["header"],
        time_unit=said["time_unit"],
        best_rating=said["best_rating"],
    )


def say_what_became(tallies: Sequence[FileTally]) -> None:
    """Print on standard error what was skipped, refused and dropped, and why."""
    for tally in tallies:
        for line in tally.lines():
            say(line)


def _pairs(option: str, text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if wrong := [left for left, equals, right in pairs if not (left.strip() and equals and right.strip())]:
        raise UsageError(f"{option}: expected NAME=VALUE separated by commas, not {wrong[0]!r}")
    return {left.strip(): right.strip() for left, _, right in pairs}
