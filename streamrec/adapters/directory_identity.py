"""The identity of a directory of checkpoints."""

from __future__ import annotations

from pathlib import Path

_FILE = "identity"


class DirectoryIdentity:
    """Holds the identity of a directory, in a file.

    Parameters
    ----------
    directory
        The directory; it is made if it does not exist.
    """

    name = "checkpoints"

    def __init__(self, directory: Path) -> None:
        self._file = directory / _FILE

    def identity(self) -> str:
        """Return the identity, empty if there is none."""
        try:
            return self._file.read_text().strip()
        except FileNotFoundError:
            return ""

    def claim(self, identity: str) -> str:
        """Set the identity if there is none, and return the one that is there now."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._file.open("x") as file:
                file.write(identity)
        except FileExistsError:
            return self.identity()
        return identity
