"""Where the kernels run, set up before JAX is imported, and what they compile ahead."""

import contextlib
import os
from pathlib import Path

NICE = 10
CACHE = "DREAMSVC_CACHE"


def give_way() -> None:
    """Makes this process the last to be served: nice, and one core left free for the process that serves."""
    with contextlib.suppress(OSError):
        os.nice(NICE)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            os.sched_setaffinity(0, cores[1:])


def cache_compiled() -> Path:
    """Keeps compiled kernels between processes, in a directory that only this user can write: it is trusted code."""
    base = os.environ.get(CACHE) or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    directory = Path(base).expanduser() / "dreamsvc" / "jax"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    # A dream may take part of a GPU's memory, never all of it at the start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    return directory
