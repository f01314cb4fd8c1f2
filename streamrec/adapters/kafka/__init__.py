"""Kafka through librdkafka: topics, producing, consuming in batches, lag."""

from streamrec.adapters.kafka.admin import create_topics
from streamrec.adapters.kafka.broadcast import BroadcastReader
from streamrec.adapters.kafka.gathering import Batching
from streamrec.adapters.kafka.publisher import KafkaPublisher
from streamrec.adapters.kafka.source import BatchSource

__all__ = ["BatchSource", "Batching", "BroadcastReader", "KafkaPublisher", "create_topics"]
