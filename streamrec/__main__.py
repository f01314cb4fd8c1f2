"""`python -m streamrec` is the command `streamrec`."""

from streamrec.cli.app import main

main()
