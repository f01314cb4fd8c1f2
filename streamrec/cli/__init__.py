"""The command line: `streamrec --help`."""
