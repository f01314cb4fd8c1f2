"""Logging: one line per event, readable on a terminal and JSON elsewhere, including libraries."""

from __future__ import annotations

import logging
import sys
from io import StringIO
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo

from streamrec.visible import visible

_SHARED = (
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


def configure_command() -> None:
    """Log to standard error; standard output is for a command's result."""
    structlog.reset_defaults()  # from a worker in the same process, as in tests
    structlog.configure(
        processors=[structlog.processors.add_log_level, *_TO_PEOPLE],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def configure(level: str, *, worker: str) -> None:
    """Write all log lines of the process, including those of libraries, to standard error.

    Parameters
    ----------
    level
        Least severe level that is written.
    worker
        Name of the worker, added to every line.
    """

    def add_worker(_logger: object, _method: str, line: EventDict) -> EventDict:
        line["worker"] = worker
        return line

    shared = (*_SHARED, add_worker)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    terminal = sys.stderr.isatty()
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(
                    _TO_PEOPLE
                    if terminal
                    else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
                ),
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("faust", "mode", "aiokafka", "asyncio"):
        # only their warnings are relevant
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _visible_values(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Escape control characters: lines quote untrusted records and servers."""
    return {
        name: visible(value, lines=name in _OF_LINES) if isinstance(value, str) else value
        for name, value in line.items()
    }


def _plain_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    """Format a traceback without local variables, which may contain passwords, and without control characters."""
    written = StringIO()
    structlog.dev.plain_traceback(written, exc_info)
    stream.write(visible(written.getvalue(), lines=True))


_OF_LINES = frozenset({"exception", "stack"})
_TO_PEOPLE = (_visible_values, structlog.dev.ConsoleRenderer(exception_formatter=_plain_traceback))
