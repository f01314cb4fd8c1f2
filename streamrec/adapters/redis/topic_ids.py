"""Ids of the topics that positions in Redis refer to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import redis

from streamrec.adapters.redis.client import translated_errors, values
from streamrec.adapters.redis.keys import Keys
from streamrec.service.batch import TopicPartition


class RedisTopicIds:
    """Stores topic ids beside a worker's positions.

    Parameters
    ----------
    client
        Client of the server.
    keys
        Key names of this installation.
    worker
        The worker that owns the positions.
    """

    other_topics = ()

    def __init__(self, client: redis.Redis, keys: Keys, worker: str) -> None:
        self._redis = client
        self._keys = keys
        self._worker = worker

    def topic_ids(self, topics: Sequence[str]) -> dict[str, str]:
        """Return the known ids of topics."""
        with translated_errors(self._redis):
            stored = values(self._redis, [self._keys.topic(self._worker, topic) for topic in topics])
        return {topic: value.decode() for topic, value in zip(topics, stored, strict=True) if value is not None}

    def adopt_topic_ids(self, ids: Mapping[str, str]) -> None:
        """Replace the stored topic ids."""
        with translated_errors(self._redis):
            self._redis.mset({self._keys.topic(self._worker, topic): topic_id for topic, topic_id in ids.items()})

    def contains_any(self, sources: Sequence[TopicPartition]) -> bool:
        """Return whether anything from these partitions was read."""
        with translated_errors(self._redis):
            return any(values(self._redis, [self._keys.position(self._worker, source) for source in sources]))
