"""A kernel compiled by JAX that keeps the signature it was written with."""

# JAX leaves some of its own types out.
# pyright: reportUnknownMemberType=false

from collections.abc import Callable
from typing import Any, Protocol, cast

import jax


class Program[**P, R](Protocol):
    """A compiled function; `lower(...).compile()` compiles it before its first call, and that call then finds it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

    def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """Takes what a call takes, or a `jax.ShapeDtypeStruct` in place of any array."""
        ...


def program[**P, R](*, static: tuple[str, ...], donated: tuple[str, ...]) -> Callable[[Callable[P, R]], Program[P, R]]:
    """Compiles the decorated function.

    static: names of arguments that are part of the program, each new value a compilation.
    donated: names of arguments whose memory the result may take over; the caller must not read them again.
    """

    def compiled(function: Callable[P, R]) -> Program[P, R]:
        return cast("Program[P, R]", jax.jit(function, static_argnames=static, donate_argnames=donated))

    return compiled
