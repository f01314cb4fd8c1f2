"""Registry of the identities of an installation's stores, on a compacted topic."""

from __future__ import annotations

import time
from contextlib import closing

import msgspec
import structlog

from streamrec.adapters.kafka.broadcast import BroadcastReader
from streamrec.adapters.kafka.publisher import KafkaPublisher
from streamrec.contracts.decode import decode_own
from streamrec.contracts.store_identity import StoreIdentity
from streamrec.contracts.topics import STORE_IDENTITIES
from streamrec.errors import BadRecordError, TransientError
from streamrec.kafka_access import KafkaAccess
from streamrec.service.batch import Record
from streamrec.service.ports import Outgoing

_POLL_S = 0.2
_TIMEOUT_S = 30.0

_log = structlog.get_logger(__name__)
_decoder = msgspec.json.Decoder(StoreIdentity)


class KafkaIdentityRegister:
    """Registry of an installation's stores.

    Parameters
    ----------
    kafka
        Address and authentication of Kafka.
    """

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka

    def read(self, store: str) -> str:
        """Return the identity of a store, empty if none was registered.

        Raises
        ------
        TransientError
            If the broker does not answer, or the topic does not exist yet.
        """
        found = ""
        end_s = time.monotonic() + _TIMEOUT_S
        with closing(BroadcastReader(kafka=self._kafka, topics=[STORE_IDENTITIES])) as reader:
            while not reader.caught_up:
                if time.monotonic() > end_s:
                    raise TransientError(f"Kafka: {STORE_IDENTITIES} could not be read in {_TIMEOUT_S:g} s")
                for _, record in reader.poll(_POLL_S) or ():
                    if record.key == store.encode():
                        found = _identity_in(record, found)
        return found

    def write(self, store: str, identity: str) -> None:
        """Register the identity of a store, replacing the previous one.

        Raises
        ------
        TransientError
            If the broker does not answer.
        """
        value = msgspec.json.encode(StoreIdentity(identity=identity))
        KafkaPublisher(self._kafka).publish([Outgoing(STORE_IDENTITIES, store.encode(), value)])


def _identity_in(record: Record, before: str) -> str:
    """Return the identity in a record; `None` for foreign records, which are ignored.

    An empty value unregisters the store.
    """
    if record.value is None:
        return ""
    try:
        return decode_own(_decoder, record.value).identity
    except BadRecordError as error:
        _log.warning("record refused", topic=STORE_IDENTITIES, offset=record.offset, because=str(error))
        return before
