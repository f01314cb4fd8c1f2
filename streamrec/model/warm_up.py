"""Compiles every loop: `python -m streamrec.model.warm_up`.

That takes half a minute of a fast processor and minutes of a slow one; from then on each process reads what is compiled
from the disk.
"""

from __future__ import annotations

from streamrec.model.ranking import lists
from streamrec.model.tables import covisitation


def main() -> None:
    """Compile what `recall` and `trainer` run, or read it from the disk."""
    lists.warm_up()
    covisitation.warm_up()


if __name__ == "__main__":
    main()
