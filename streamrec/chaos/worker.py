"""A worker of a chaos run: `python -m streamrec.chaos.worker NAME PLANT EVERY`.

It treats marked records as unreadable, and injects the crash or bug named by PLANT, if any: see
:mod:`streamrec.chaos.planted`. A crash happens on every EVERY-th call.
"""

from __future__ import annotations

import sys
from importlib import import_module

from streamrec.chaos import undecodable
from streamrec.settings import Settings


def main(name: str, plant: str, every: str) -> None:
    """Run the worker."""
    worker = import_module(f"workers.{name}")
    undecodable.plant()
    if plant:  # the injected code imports all stores, which other workers do not need
        planted = import_module("streamrec.chaos.planted")
        (planted.PLACES | planted.DISTURBANCES | planted.BUGS)[plant](int(every))
    worker.main(Settings.from_env())


if __name__ == "__main__":
    main(*sys.argv[1:])
