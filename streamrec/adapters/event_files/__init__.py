"""Files of past events: found, read row by row, and validated against the contract."""

from streamrec.adapters.event_files.event_file import EventFile, FileEvent
from streamrec.adapters.event_files.event_types import NoEvent, kind_of
from streamrec.adapters.event_files.formats import FORMATS, FileOptions
from streamrec.adapters.event_files.items import read_items
from streamrec.adapters.event_files.tables import UNREADABLE
from streamrec.adapters.event_files.tally import Example, FileTally
from streamrec.adapters.event_files.values import TIME_UNITS, guess_unit, milliseconds

__all__ = [
    "FORMATS",
    "TIME_UNITS",
    "UNREADABLE",
    "EventFile",
    "Example",
    "FileEvent",
    "FileOptions",
    "FileTally",
    "NoEvent",
    "guess_unit",
    "kind_of",
    "milliseconds",
    "read_items",
]
