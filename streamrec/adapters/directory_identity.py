"""Identity of a checkpoint directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamrec.errors import TransientError

_FILE = "identity"


class DirectoryIdentity:
    """Stores the identity of a directory in a file.

    Parameters
    ----------
    directory
        The directory; created if missing.
    """

    name = "checkpoints"

    def __init__(self, directory: Path) -> None:
        self._file = directory / _FILE

    def identity(self) -> str:
        """Return the identity, empty if there is none.

        Raises
        ------
        TransientError
            If the directory cannot be read.
        """
        with self._translated_errors():
            try:
                return self._file.read_text(errors="replace").strip()
            except FileNotFoundError:
                return ""

    def claim(self, identity: str) -> str:
        """Set the identity if there is none, and return the current one; only one process at a time may call this.

        Raises
        ------
        TransientError
            If the directory cannot be written; a file truncated by a full disk is not an identity.
        """
        if held := self.identity():
            return held
        with self._translated_errors():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(identity)
        return identity

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TransientError(f"the identity of the checkpoints: {error}") from error
