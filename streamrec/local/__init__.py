"""Local stack: real Kafka, Valkey and PostgreSQL from Python and Maven packages, and the workers."""

from streamrec.local.stack import USUAL_PORTS, Stack, local_stack
from streamrec.local.supervisor import Supervisor
from streamrec.running import find_running

__all__ = ["USUAL_PORTS", "Stack", "Supervisor", "find_running", "local_stack"]
