"""The stores that an installation uses: one record per store on a compacted topic."""

from __future__ import annotations

from msgspec import Struct

from streamrec.contracts.incoming import Id


class StoreIdentity(Struct, frozen=True, kw_only=True):
    """The Redis or PostgreSQL of this installation. Topic `store-identities`, key: `Redis` or `PostgreSQL`."""

    identity: Id
    """Random identity, also held by the store itself: a store with a different one belongs to another installation."""
