"""Redis or Valkey: interest states, top-K lists, and what a reader of lists needs."""

from streamrec.adapters.redis.interests import RedisInterestStore
from streamrec.adapters.redis.list_marks import RedisListMarks
from streamrec.adapters.redis.topk import RedisTopKStore, TopKReader

__all__ = ["RedisInterestStore", "RedisListMarks", "RedisTopKStore", "TopKReader"]
