"""Where the kernels run, set up before JAX is imported, and what they compile ahead."""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

NICE = 10
CACHE = "DREAMSVC_CACHE"
# Of Linux, see prctl(2).
PR_SET_PDEATHSIG = 1


def give_way() -> None:
    """Makes this process the last to be served: nice, and one core left free for the process that serves."""
    with contextlib.suppress(OSError):
        os.nice(NICE)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) > 1:
            os.sched_setaffinity(0, cores[1:])


def go_first() -> None:
    """Where memory runs out, the system ends this process before any other of ours: nothing is lost with it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def end_with_parent() -> None:
    """Has the system end this process with the one that started it, also where it is stopped or hangs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def thread_share(cores: float) -> Callable[[float], float]:
    """How much of its time the dreaming thread may be busy, so that the device is for at most some share of it.

    Of a GPU that is the share itself. Without one the device is all cores together, of which a dream keeps one busy.
    """
    import jax  # not before the environment is set up

    times = 1.0 if jax.default_backend() != "cpu" else cores
    return lambda device_share: min(1.0, device_share * times)


def device_name() -> str:
    """Where the kernels run, e.g. "cpu" or "NVIDIA H200"."""
    import jax

    return str(cast("Any", jax.devices()[0]).device_kind)


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
