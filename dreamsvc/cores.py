"""Cores that a process may have."""

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def core_count() -> float:
    """Cores that this machine, or the container that this runs in, lets us have."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = QUOTA.read_text(encoding="ascii").split()
        return cores if quota == "max" else min(cores, float(quota) / float(period))
    except (OSError, ValueError):
        # No such limit here.
        return cores
