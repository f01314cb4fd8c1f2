"""Names of all Redis keys."""

from __future__ import annotations

from streamrec.service.batch import TopicPartition


class Keys:
    """Names of keys, each with the prefix of the installation.

    Parameters
    ----------
    installation
        Name of the installation, empty if it does not share the server.

    Examples
    --------
    >>> Keys().topk("u42"), Keys("shop2").topk("u42")
    ('rec:u42', 'shop2:rec:u42')
    """

    def __init__(self, installation: str = "") -> None:
        self._prefix = f"{installation}:" if installation else ""
        self.default = f"{self._prefix}rec-default"
        """The default list."""
        self.withdrawn = f"{self._prefix}withdrawn"
        """Sorted set of withdrawn items by time of withdrawal."""
        self.withdrawn_waiting = f"{self._prefix}withdrawn-waiting"
        """Set of withdrawn items that may still be in stored lists."""
        self.withdrawn_leaving = f"{self._prefix}withdrawn-leaving"
        """Those of them that are being taken out of all lists, a set."""
        self.withdrawn_digest = f"{self._prefix}withdrawn-digest"
        """Digest of all withdrawn items."""
        self.cleaner = f"{self._prefix}withdrawn-cleaner"
        """Lease of the worker that removes withdrawn items from stored lists."""
        self.any_topk = f"{self._prefix}rec:*"
        """Pattern of the keys of all users' lists."""
        self.identity = f"{self._prefix}identity"
        """Identity of the store."""

    def lists(self, what: str) -> str:
        """Return the key of metadata about all lists."""
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
        """Return the key of the topic id that a worker's positions refer to."""
        return f"{self._prefix}topic:{worker}:{topic}"
