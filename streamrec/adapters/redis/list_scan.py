"""Slow scan of all stored lists: for commands, never for workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from streamrec.adapters.redis.client import connect, next_keys, translated_errors, values
from streamrec.adapters.redis.keys import Keys
from streamrec.adapters.redis.list_marks import MAX_MARKED
from streamrec.service.list_marks import Facts, Made

SCANNED_TOGETHER = 500
LISTS_PER_S = 20_000
"""About a tenth of what Redis can read, so that the pipeline is not affected."""


class Scanned(NamedTuple):
    """Progress of a scan.

    Attributes
    ----------
    lists, marked
        Number of lists read, and of those marked for rebuilding.
    """

    lists: int
    marked: int


class _StoredItems(msgspec.Struct):
    ids: list[msgspec.Raw]

    def __len__(self) -> int:
        return len(self.ids)


class _Stored(msgspec.Struct):
    """The fields of a list that are decoded: items are only counted."""

    produced_at_ms: int
    model_version: str
    items: _StoredItems | list[msgspec.Raw]
    """An object for each in lists of earlier releases."""


_decoder = msgspec.json.Decoder(_Stored)


class ListScan:
    """Marks all lists that are short or were not made by the serving version.

    Parameters
    ----------
    url
        Address of Redis.
    installation
        Name of the installation, which prefixes all keys.
    """

    def __init__(self, url: str, *, installation: str = "") -> None:
        self._redis = connect(url)
        self._keys = Keys(installation)

    def run(self, facts: Facts) -> Iterator[Scanned]:
        """Scan all lists, and yield progress periodically.

        When the marks reach their bound, it waits until some lists have been rebuilt.

        Raises
        ------
        TransientError
            If Redis is unavailable.
        """
        cursor, lists, marked, begun_s = 0, 0, 0, time.monotonic()
        while True:
            with translated_errors(self._redis):
                cursor, keys = next_keys(self._redis, self._keys.any_topk, cursor, count=SCANNED_TOGETHER)
                stored = values(self._redis, keys)
                marks = {
                    key.decode().removeprefix(self._keys.topk("")): topk.produced_at_ms
                    for key, value in zip(keys, stored, strict=True)
                    if value is not None and _is_outdated(topk := _decoder.decode(value), facts)
                }
                self._mark(marks)
            lists, marked = lists + len(keys), marked + len(marks)
            yield Scanned(lists, marked)
            if not cursor:
                return
            time.sleep(max(0.0, begun_s + lists / LISTS_PER_S - time.monotonic()))

    def _mark(self, marks: dict[str, int]) -> None:
        if not marks:
            return
        while int(self._redis.zcard(self._keys.lists(Made.POOR))) + len(marks) > MAX_MARKED:
            time.sleep(1.0)
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.zadd(self._keys.lists(Made.POOR), marks)
            for made in (Made.BEHIND, Made.COMPLETE):
                pipeline.zrem(self._keys.lists(made), *marks)
            pipeline.execute()


def _is_outdated(topk: _Stored, facts: Facts) -> bool:
    return len(topk.items) < min(facts.top_k, facts.items) or topk.model_version != facts.version
