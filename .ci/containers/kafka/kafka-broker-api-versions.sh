#!/usr/bin/python3
"""Asks a broker for the versions of its API, as the program of that name does: `... --bootstrap-server HOST:PORT`."""

import socket
import struct
import sys

host, port = sys.argv[sys.argv.index("--bootstrap-server") + 1].rsplit(":", 1)
request = struct.pack(">hhih", 18, 0, 7, -1)  # ApiVersions, version 0, a number to know the answer by, no client id
with socket.create_connection((host, int(port)), timeout=10) as broker:
    broker.sendall(struct.pack(">i", len(request)) + request)
    size, correlation_id, error = struct.unpack(">iih", broker.recv(10, socket.MSG_WAITALL))
sys.exit(0 if (correlation_id, error) == (7, 0) else 1)
