"""The machine that figures were measured on."""

from __future__ import annotations

import os
import platform

import psutil


def machine() -> str:
    """Describe this machine: cores, memory, system."""
    memory_gib = psutil.virtual_memory().total / (1 << 30)
    return f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()} {platform.machine()}"
