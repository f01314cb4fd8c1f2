"""All errors raised by streamrec.

StreamrecError
├── SettingsError          a setting is missing or wrong; the message names the variable and shows an example
├── UsageError             invalid use of a command; one line, exit code 2
├── BadRecordError         a record can never be applied: it goes to the dead-letter topic with this reason
├── WrongTopicError        a topic is not the one that the store's positions refer to: the worker refuses to read it
├── TransientError         a store or the broker is unavailable or slow: retry
│   └── UnfitServerError   a server's configuration would lose data: the worker waits for a change
├── TooLargeError          a record exceeds its topic's size limit; it was not sent
└── TooManyDeadLettersError  too many dead letters, which indicates a bad deployment: the worker pauses
"""

from __future__ import annotations


class StreamrecError(Exception):
    """Base class of all errors."""


class SettingsError(StreamrecError):
    """A setting is missing or invalid."""


class UsageError(StreamrecError):
    """A command was used incorrectly."""


class BadRecordError(StreamrecError):
    """A record that no retry can fix.

    Parameters
    ----------
    reason
        Short, stable category of the error (``bad-json``, ``missing-field`` …), used as a metric label.
    detail
        Description of the error.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class WrongTopicError(StreamrecError):
    """A topic was re-created or truncated: positions and fences do not apply to it."""


class TransientError(StreamrecError):
    """A store or the broker did not answer; a retry may succeed."""


class UnfitServerError(TransientError):
    """A server's configuration would lose data; the message says what to set."""


class TooLargeError(StreamrecError):
    """A record exceeds its topic's size limit; nothing was sent."""


class TooManyDeadLettersError(StreamrecError):
    """Most recent records were refused, which indicates a bad deployment rather than bad data."""
