#!/usr/bin/env bash
# Guess: aiokafka sends the newest version of a request that both it and the broker support, and parses the response with
#        the layout of that version.
# What happens: DescribeGroups is sent in version 3, but its response is decoded by the layout of version 2, which lacks the
#        last field of each group. A response about one group decodes; of two groups, the second is decoded four bytes
#        too early, and the client raises ValueError or returns wrong fields. Version 1 decodes correctly.
# Versions: aiokafka 0.14.0, Python 3.11
# Date: 2026-11-29
# Source: run here; layout of the response: https://kafka.apache.org/protocol#The_Messages_DescribeGroups
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check aiokafka==0.14.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version
from io import BytesIO

from aiokafka.protocol.admin import DescribeGroupsRequest, DescribeGroupsResponse_v1, DescribeGroupsResponse_v3

ANY_VERSION = {DescribeGroupsRequest.API_KEY: (0, 6)}  # what a Kafka 4 broker offers
NAMES = ["first", "second"]


def answer(response, *operations):
    """Return what a broker sends of groups without members."""
    groups = [(0, name, "Empty", "consumer", "", [], *operations) for name in NAMES]
    return response(0, groups).encode()


def read(response, body):
    try:
        return [group[1] for group in response.decode(BytesIO(body)).groups]
    except ValueError as error:
        return f"{type(error).__name__}: {error}"


asked = DescribeGroupsRequest(NAMES).prepare(ANY_VERSION)
print("aiokafka", version("aiokafka"))
print("asked in version", asked.API_VERSION, "read by the layout of version", asked.RESPONSE_TYPE.API_VERSION)
wrong = read(asked.RESPONSE_TYPE, answer(DescribeGroupsResponse_v3, -1))
right = read(DescribeGroupsResponse_v1, answer(DescribeGroupsResponse_v1))
print("groups by that layout:", wrong)
print("groups in version 1:  ", right)
assert (asked.API_VERSION, asked.RESPONSE_TYPE.API_VERSION) == (3, 2)
assert right == NAMES
assert wrong != NAMES
PYTHON
