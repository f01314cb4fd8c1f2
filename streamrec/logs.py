"""Logging: one line an event, for people at a terminal and JSON elsewhere, libraries included."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict

_SHARED = (
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


def configure_command() -> None:
    """Send what a command has to complain about to standard error; standard output is for what it was asked for."""
    structlog.reset_defaults()  # of a worker in the same process, as tests have it
    structlog.configure(
        processors=[structlog.processors.add_log_level, _to_people()],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def configure(level: str, *, worker: str) -> None:
    """Send every log line of the process to standard error, ours and those of libraries alike.

    Parameters
    ----------
    level
        Least severe level that is written.
    worker
        Name of the worker, which every line carries.
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
                    [_to_people()]
                    if terminal
                    else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
                ),
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("faust", "mode", "aiokafka", "asyncio"):
        # their chatter tells nothing of our work; their warnings do
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _to_people() -> structlog.dev.ConsoleRenderer:
    """Write lines for people, with plain tracebacks: those with local variables show passwords."""
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
