"""The C heap of the process that serves: what threads took and let go of goes back to the system.

glibc gives every thread that allocates an arena of its own, up to eight a core, and keeps what is free in each.
Elsewhere none of this is needed, and nothing is done.
"""

import contextlib
import ctypes
import os

# Of malloc.h.
_M_ARENA_MAX = -8
_ARENAS = 2


def few_arenas() -> None:
    """To be called before there are threads; whoever has set MALLOC_ARENA_MAX knows better."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        _call("mallopt", _M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """To be called when much was freed, from any thread; takes some milliseconds."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):
        getattr(ctypes.CDLL(None), name)(*arguments)
