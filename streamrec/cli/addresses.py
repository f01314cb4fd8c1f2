"""Server addresses: from the environment, else from a `streamrec up` in another terminal."""

from __future__ import annotations

from streamrec.running import find_running
from streamrec.settings import Settings


def resolved_settings() -> Settings:
    """Read the settings; addresses that are not set are taken from a local stack running on their data directory."""
    settings = Settings.from_env()
    return find_running(settings) or settings
