"""A worker of a chaos run: `python -m streamrec.chaos.worker NAME PLANT EVERY`.

It takes marked records for undecodable ones, and has planted in it what PLANT names, if anything: see
:mod:`streamrec.chaos.planted`. An exit happens once in EVERY passes.
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
    if plant:  # what can be planted imports all stores, which no other worker of the run shall wait for
        planted = import_module("streamrec.chaos.planted")
        (planted.PLACES | planted.DISTURBANCES | planted.BUGS)[plant](int(every))
    worker.main(Settings.from_env())


if __name__ == "__main__":
    main(*sys.argv[1:])
