"""Refuses a store of another installation.

Two installations that share a broker by mistake would share its consumer groups: each would take half of the partitions
into its own stores, and nothing would fail. So a store holds a random identity, the broker holds the identity of each
store that the installation works with, and a worker compares the two before it joins its group.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from streamrec.errors import StreamrecError, TransientError
from streamrec.service.ports import IdentifiedStore, IdentityRegister

PATIENCE_S = 12.0
"""A contradiction must last this long: a dead member stays in its group for six seconds, and the workers of a store
that was emptied give it back its identity within a second."""


class StoreIdentityCheck:
    """Compares the identity that a store holds with the one that the broker knows.

    Parameters
    ----------
    store
        The store.
    register
        What the broker knows.
    in_use
        Whether any worker that uses the registered store runs now.
    make_identity
        Returns a new random identity.
    monotonic_s
        The clock that the patience is measured with.
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
        """Return if the store is the one that this installation works with, or becomes it.

        A store without an identity is new or was emptied. It becomes the installation's unless workers are running
        on another one.

        Raises
        ------
        TransientError
            If a server does not answer, or the two contradict each other, which may pass; call again.
        StreamrecError
            If they have contradicted each other for `PATIENCE_S`.
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
        """Make this store the one that the installation works with, and return its identity.

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
        """Give the store its identity back if it was emptied; one that has another identity is checked anew.

        A store that has its identity is only read. Raises what :meth:`check` raises.
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
            f"{message}: give each installation on a shared broker a name of its own (STREAMREC_INSTALLATION=shop2), "
            "correct the address, or stop all workers and run `streamrec adopt` to work with this store from now on"
        )
