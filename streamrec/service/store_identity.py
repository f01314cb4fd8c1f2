"""Rejects stores of other installations.

Two installations that share a broker by mistake would share its consumer groups: each would consume half of the
partitions into its own stores without any error. So each store holds a random identity, the broker holds the identities
of the installation's stores, and a worker compares the two before it joins its group.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from streamrec.errors import StreamrecError, TransientError
from streamrec.service.ports import IdentifiedStore, IdentityRegister

PATIENCE_S = 12.0
"""A mismatch must last this long: a dead member stays in its group for six seconds, and the workers of an emptied store
restore its identity within a second."""


class StoreIdentityCheck:
    """Compares the identity in a store with the registered one.

    Parameters
    ----------
    store
        The store.
    register
        Registry on the broker.
    in_use
        Whether any worker that uses the registered store is running.
    make_identity
        Factory of random identities.
    monotonic_s
        Clock for `PATIENCE_S`.
    """

    def __init__(
        self,
        store: IdentifiedStore,
        register: IdentityRegister,
        *,
        in_use: Callable[[], bool],
        make_identity: Callable[[], str],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._register = register
        self._in_use = in_use
        self._make_identity = make_identity
        self._monotonic_s = monotonic_s
        self._identity = ""
        self._give_up_s: float | None = None

    def check(self) -> None:
        """Return if the store belongs to this installation, or can be registered for it.

        A store without an identity is new or was emptied. It is registered unless workers are running on another one.

        Raises
        ------
        TransientError
            If a server does not answer, or the identities differ, which may be temporary; call again.
        StreamrecError
            If they have differed for `PATIENCE_S`.
        """
        registered, held = self._register.read(self._store.name), self._store.identity()
        if registered and not held and self._in_use():
            raise self._contradiction("is empty while other workers of this installation use another one")
        if registered and held and registered != held:
            raise self._contradiction("belongs to another installation")
        self._give_up_s = None
        self._identity = held or self._store.claim(self._make_identity())
        if self._identity != registered:
            self._register.write(self._store.name, self._identity)

    def adopt(self) -> str:
        """Register this store for the installation, and return its identity.

        Raises
        ------
        StreamrecError
            If workers of the installation are running.
        TransientError
            If a server does not answer.
        """
        if self._in_use():
            raise StreamrecError(f"workers that use {self._store.name} are running: stop them first")
        self._identity = self._store.claim(self._make_identity())
        self._register.write(self._store.name, self._identity)
        return self._identity

    def keep(self) -> None:
        """Restore the identity of an emptied store; a store with another identity is checked again.

        A store with the expected identity is only read. Raises the same errors as :meth:`check`.
        """
        held = self._store.identity() or self._store.claim(self._identity)
        if held != self._identity:
            self.check()

    def _contradiction(self, what: str) -> StreamrecError:
        now_s = self._monotonic_s()
        self._give_up_s = self._give_up_s or now_s + PATIENCE_S
        message = f"this {self._store.name} {what}"
        if now_s < self._give_up_s:
            return TransientError(message)
        return StreamrecError(
            f"{message}: give each installation on a shared broker its own name (STREAMREC_INSTALLATION=shop2), "
            "correct the address, or stop all workers and run `streamrec adopt` to use this store from now on"
        )
