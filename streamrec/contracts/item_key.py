"""Item ids in the keys of records of `items`.

A deletion has only its key. The key should be the item id itself; the formats of common serializers are read, too. A
reader must understand a deletion from that record alone: earlier records of the item may be gone from a compacted log.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streamrec.contracts.incoming import MAX_ID_CHARACTERS
from streamrec.errors import BadRecordError

_MAX_KEY_BYTES = 4_096
_ID_FIELDS = ("item_id", "id")


def ids_named_by(key: bytes | None) -> tuple[str, ...]:
    """Return the ids that a key may represent: its text and, if that is JSON, the id in it.

    Raises
    ------
    BadRecordError
        If it cannot be an item id.

    Examples
    --------
    >>> ids_named_by(b"sku-1"), ids_named_by(b'"sku-1"'), ids_named_by(b'{"id": 17}')
    (('sku-1',), ('"sku-1"', 'sku-1'), ('{"id": 17}', '17'))
    """
    if not key:
        raise BadRecordError("bad-key", "the record has no key, so it does not name an item")
    if len(key) > _MAX_KEY_BYTES:
        raise BadRecordError("bad-key", f"a key of {len(key)} bytes is not an item id")
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise BadRecordError("bad-key", f"the key {key[:80]!r} is not text: produce keys with a string serializer")
    return tuple(
        dict.fromkeys(each for each in (text, _named_in_json(text)) if each and len(each) <= MAX_ID_CHARACTERS)
    )


def _named_in_json(text: str) -> str | None:
    if text[0] not in '"{':
        return None
    try:
        named: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    if isinstance(named, dict) and "payload" in named:  # Kafka Connect's JSON with a schema
        named = named["payload"]
    if isinstance(named, dict):
        named = next((named[field] for field in _ID_FIELDS if field in named), None)
    if isinstance(named, int) and not isinstance(named, bool):
        return str(named)
    return named if isinstance(named, str) else None
