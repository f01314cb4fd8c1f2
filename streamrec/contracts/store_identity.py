"""Which stores an installation works with: one record per store on a compacted topic."""

from __future__ import annotations

from msgspec import Struct

from streamrec.contracts.incoming import Id


class StoreIdentity(Struct, frozen=True, kw_only=True):
    """Which Redis or PostgreSQL this installation writes to. Topic `store-identities`, key: `Redis` or `PostgreSQL`."""

    identity: Id
    """Random name that the store itself holds, too: a store with another one belongs to another installation."""
