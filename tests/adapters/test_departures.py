"""The partitions of a process that died go to others as soon as somebody has seen it die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from uuid import uuid4

from confluent_kafka import Consumer

from streamrec.adapters.kafka.client import client_config
from streamrec.adapters.kafka.departures import leave_for
from streamrec.adapters.kafka.members import has_members

SESSION_MS = 300_000
"""Far longer than anything here takes: nobody is missed by the broker itself."""

MEMBER = """
import sys
from confluent_kafka import Consumer
from streamrec.adapters.kafka.client import client_config
from streamrec.kafka_access import KafkaAccess
consumer = Consumer(client_config(KafkaAccess(sys.argv[1])) | {"group.id": sys.argv[2], "session.timeout.ms": 300_000})
consumer.subscribe(["clicks"], on_assign=lambda *_: print("assigned", flush=True))
while True:
    consumer.poll(0.1)
"""


def test_a_process_that_died_leaves_its_group_at_once(kafka):
    group = f"test-{uuid4().hex}"
    member = subprocess.Popen([sys.executable, "-c", MEMBER, kafka.bootstrap, group], stdout=subprocess.PIPE, text=True)
    assert member.stdout.readline() == "assigned\n"
    member.send_signal(signal.SIGKILL)
    member.communicate()

    began_s = time.monotonic()
    assert leave_for(kafka, group, os.getpid()) == 0, "nobody leaves for another process"
    assert leave_for(kafka, group, member.pid) == 1
    assert not has_members(kafka, [group])
    heir = Consumer(client_config(kafka) | {"group.id": group, "session.timeout.ms": SESSION_MS})
    heir.subscribe(["clicks"])
    while len(heir.assignment()) < 4:
        heir.poll(0.1)
        assert time.monotonic() - began_s < SESSION_MS / 1_000, "the dead member was waited for"
    heir.close()
    assert leave_for(kafka, group, member.pid) == 0
