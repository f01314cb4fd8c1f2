"""`streamrec up`: runs the complete pipeline on this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from shlex import quote
from types import FrameType

from streamrec.cli.output import DataConsole, DataTable, console
from streamrec.environment import variable_name
from streamrec.local import USUAL_PORTS, Stack, Supervisor, local_stack
from streamrec.local.server import choose_port, is_free
from streamrec.local.supervisor import WORKERS
from streamrec.settings import Settings


def up() -> None:
    """Run Kafka, Redis, PostgreSQL and all workers on this machine until Ctrl-C.

    A server whose address is set (STREAMREC_KAFKA, STREAMREC_REDIS_URL, STREAMREC_POSTGRES_URL) is not started. The
    next start on the same data directory (STREAMREC_DATA_DIR) picks up where this one left off, including all events,
    states and the model, at the same addresses.

    The servers listen on the usual ports (9092, 6379, 5432, the dashboard on 8474), or on others if these are taken.

    Example: STREAMREC_DATA_DIR=/var/lib/streamrec streamrec up
    """
    stopping = stop_on_signals()
    settings = Settings.from_env()
    with local_stack(settings, progress=True, ports=USUAL_PORTS) as servers:
        stack = servers
        if "monitor_port" not in settings.model_fields_set:
            stack = replace(servers, settings=_with_free_page(servers.settings))
        logs = stack.settings.data_dir / "logs"
        with Supervisor(stack, logs, (*WORKERS, "monitor")):
            _show(stack, _other_ports(stack, settings), console())
            stopping.wait()
            console().print("stopping: workers finish their batch, servers close their files")


def _with_free_page(settings: Settings) -> Settings:
    """Return settings with a free port for the dashboard."""
    port = choose_port(settings.data_dir, "monitor", preferred=settings.monitor_port)
    return settings.model_copy(update={"monitor_port": port})


def _other_ports(stack: Stack, asked: Settings) -> list[str]:
    """Say which servers do not listen on their usual port, and why."""
    ports = {server.name: (server.port, USUAL_PORTS[field]) for field, server in stack.servers.items()}
    ports["the dashboard"] = (stack.settings.monitor_port, asked.monitor_port)
    kept = "is free, but this data directory keeps the ports of its first start"
    return [
        f"{name} listens on port {port}: {usual} {kept if is_free(usual) else 'is taken'}"
        for name, (port, usual) in ports.items()
        if port != usual
    ]


def stop_on_signals() -> threading.Event:
    """Return an event set by the first SIGINT or SIGTERM; the second one ends the process immediately."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(130)  # the guardian ends remaining processes
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopping


def _show(stack: Stack, other_ports: Sequence[str], terminal: DataConsole) -> None:
    table = DataTable("what", "where", box=None)
    table.add_row("Kafka", f"{stack.settings.kafka} ({stack.broker})")
    own = {field: address for field, address in stack.settings.addresses().items() if field in stack.servers}
    for field in ("redis_url", "postgres_url"):
        # an address from the environment may hold a password
        table.add_row(field.removesuffix("_url"), own.get(field, f"as {variable_name(field)} says"))
    if stack.settings.monitor_port:
        table.add_row("page", f"http://{stack.settings.monitor_host}:{stack.settings.monitor_port}")
    table.add_row("data", str(stack.settings.data_dir))
    table.add_row("logs", str(stack.settings.data_dir / "logs"))
    terminal.print(table)
    for line in other_ports:
        terminal.print(line)
    terminal.print("\nAddresses for your own programs:\n")
    for field, address in own.items():
        terminal.print(f"export {variable_name(field)}={quote(address)}", soft_wrap=True, highlight=False)
    terminal.print(
        "\nIn another terminal: streamrec replay FILE, streamrec topk USER, streamrec lag. Ctrl-C stops everything."
    )
