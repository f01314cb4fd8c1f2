"""How commands print: figures and tables on standard output, everything else on standard error.

What is printed comes from untrusted records, files and servers: it is never interpreted as markup, and no character of
it controls the terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, Annotated, Any

import msgspec
import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.style import StyleType
from rich.table import Table
from rich.text import Text, TextType

from streamrec.visible import visible, visible_json

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output and nothing else.")]


class DataConsole(Console):
    """A console without markup and emoji codes, which lets no control character reach the terminal."""

    def __init__(self, *, file: IO[str] | None = None, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(file=file, stderr=stderr, width=width, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render anything; only rich's own segments control the terminal."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text, lines=True), segment.style)

    def on_broken_pipe(self) -> None:
        """Raise, so that the command reports it in one line."""
        raise BrokenPipeError


class DataTable(Table):
    """A table whose cells, title and caption are data."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """Add a row; control characters are shown as codes, so that a cell keeps its width and its line."""
        shown = (Text(visible(cell)) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*shown, style=style, end_section=end_section)

    @property
    def title(self) -> TextType | None:
        """The text above the table."""
        return self._title

    @title.setter
    def title(self, title: TextType | None) -> None:
        self._title = Text(visible(title), style="table.title") if isinstance(title, str) else title

    @property
    def caption(self) -> TextType | None:
        """The text below the table."""
        return self._caption

    @caption.setter
    def caption(self, caption: TextType | None) -> None:
        self._caption = Text(visible(caption), style="table.caption") if isinstance(caption, str) else caption


def print_json(document: Any) -> None:  # noqa: ANN401  # anything that msgspec encodes
    """Print a JSON document, indented, alone on standard output."""
    encoded = msgspec.json.format(msgspec.json.encode(document), indent=2)
    sys.stdout.write(visible_json(encoded.decode()) + "\n")
    sys.stdout.flush()


def console() -> DataConsole:
    """Return a console on standard output."""
    return DataConsole()


def say(text: str) -> None:
    """Return a console on standard error, for anything but the result."""
    DataConsole(stderr=True).print(Text(visible(text), style="dim"), soft_wrap=True)


def progress_bar() -> Progress:
    """Return a progress bar on standard error with rate and time left; silent if that is not a terminal."""
    on_terminal = DataConsole(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        console=on_terminal,
        disable=not on_terminal.is_terminal,
    )
