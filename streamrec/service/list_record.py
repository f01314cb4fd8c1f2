"""The `recommendations` record of a list, within the topic's record size limit."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streamrec.contracts.derived import TopKList
from streamrec.contracts.topics import RECOMMENDATIONS
from streamrec.service.ports import Outgoing
from streamrec.service.record_size import fits, size_of

_encoder = msgspec.json.Encoder()


def list_record(topk: TopKList, headers: Mapping[str, bytes], room: int) -> tuple[Outgoing, int]:
    """Return the record of a list, and the number of items cut from its end to fit.

    Parameters
    ----------
    headers
        Headers of the record.
    room
        Record size limit of the topic, overhead included, in bytes.
    """
    record = _list_outgoing(topk, headers)
    if fits(record, room):
        return record, 0
    kept = len(topk.items)
    while (excess := size_of(record) - room) > 0 and kept:
        while excess > 0 and kept:
            kept -= 1
            excess -= len(_encoder.encode(topk.items.ids[kept])) + 1  # plus a comma
        record = _list_outgoing(msgspec.structs.replace(topk, items=topk.items.taken(range(kept))), headers)
    return record, len(topk.items) - kept


def _list_outgoing(topk: TopKList, headers: Mapping[str, bytes]) -> Outgoing:
    return Outgoing(RECOMMENDATIONS, topk.user_id.encode(), _encoder.encode(topk), headers)
