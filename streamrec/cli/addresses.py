"""Where the servers are: from the environment, else those of a `streamrec up` in another terminal."""

from __future__ import annotations

from streamrec.running import find_running
from streamrec.settings import Settings


def resolved_settings() -> Settings:
    """Read the settings, with the addresses of a local stack that runs on their data directory where none are set."""
    settings = Settings.from_env()
    return find_running(settings) or settings
