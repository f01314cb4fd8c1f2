"""Runs the command `streamrec` by `python -m streamrec`."""

from streamrec.cli.app import main

main()
