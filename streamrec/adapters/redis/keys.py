"""The names of all keys in Redis."""

from __future__ import annotations

from streamrec.service.batch import TopicPartition


class Keys:
    """Names keys, each with the prefix of the installation.

    Parameters
    ----------
    installation
        Name of the installation, empty where it has the server to itself.

    Examples
    --------
    >>> Keys().topk("u42"), Keys("shop2").topk("u42")
    ('rec:u42', 'shop2:rec:u42')
    """

    def __init__(self, installation: str = "") -> None:
        self._prefix = f"{installation}:" if installation else ""
        self.default = f"{self._prefix}rec-default"
        """The list of users who have none."""
        self.withdrawn = f"{self._prefix}withdrawn"
        """Withdrawn items, a sorted set by the time of the withdrawal."""
        self.withdrawn_waiting = f"{self._prefix}withdrawn-waiting"
        """Withdrawn items that may still be in stored lists, a set."""
        self.withdrawn_leaving = f"{self._prefix}withdrawn-leaving"
        """Those of them that are being taken out of all lists, a set."""
        self.withdrawn_digest = f"{self._prefix}withdrawn-digest"
        """Digest of all withdrawn items."""
        self.cleaner = f"{self._prefix}withdrawn-cleaner"
        """Who takes withdrawn items out of stored lists."""
        self.any_topk = f"{self._prefix}rec:*"
        """A pattern of the keys of all users' lists."""
        self.identity = f"{self._prefix}identity"
        """Which store this is."""

    def lists(self, what: str) -> str:
        """Return the key of what is remembered of all lists."""
        return f"{self._prefix}lists:{what}"

    def state(self, user_id: str) -> str:
        """Return the key of a user's interest state."""
        return f"{self._prefix}interest:{user_id}"

    def topk(self, user_id: str) -> str:
        """Return the key of a user's list."""
        return f"{self._prefix}rec:{user_id}"

    def position(self, worker: str, source: TopicPartition) -> str:
        """Return the key of a worker's progress in a partition."""
        return f"{self._prefix}position:{worker}:{source.topic}:{source.partition}"

    def topic(self, worker: str, topic: str) -> str:
        """Return the key of the id of a topic that a worker's positions are of."""
        return f"{self._prefix}topic:{worker}:{topic}"
