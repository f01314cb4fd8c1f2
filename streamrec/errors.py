"""Every error that streamrec raises on purpose.

StreamrecError
├── SettingsError          a setting is missing or wrong; the message names the variable and shows an example
├── UsageError             what was asked for on the command line cannot be done; one line, exit code 2
├── BadRecordError         a record can never be applied: it goes to the dead-letter topic with this reason
├── WrongTopicError        a topic is not the one that the store's positions are of: the worker refuses to read it
├── TransientError         a store or the broker is away or slow: worth trying again
│   └── UnfitServerError   a server is configured so that records or states would be lost: a worker waits for a change
├── TooLargeError          a record that its topic does not take, found before it was sent
└── TooManyDeadLettersError  more dead letters than bad data explains: a bad deploy, the worker pauses
"""

from __future__ import annotations


class StreamrecError(Exception):
    """Base of every error raised on purpose."""


class SettingsError(StreamrecError):
    """A setting is missing or wrong."""


class UsageError(StreamrecError):
    """A command was asked for something that cannot be done."""


class BadRecordError(StreamrecError):
    """A record that no retry will make right.

    Parameters
    ----------
    reason
        Short, stable class of the fault (``bad-json``, ``missing-field`` …), fit for a metric's label.
    detail
        What exactly is wrong, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class WrongTopicError(StreamrecError):
    """A topic is not the one that was read before, or has lost its end: positions and fences say nothing of it."""


class TransientError(StreamrecError):
    """A store or the broker did not answer; the same call may go through later."""


class UnfitServerError(TransientError):
    """A server is configured so that records or states would be lost; the message says what to set."""


class TooLargeError(StreamrecError):
    """A record is larger than its topic takes; nothing was sent."""


class TooManyDeadLettersError(StreamrecError):
    """Most of the recent records were refused, which points at a bad deploy and not at bad data."""
