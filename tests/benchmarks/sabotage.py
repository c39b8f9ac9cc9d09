"""What a careless server would do, for showing that the proof by kills notices it; called in a process of its own."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from dreamsvc.memory import requests
from dreamsvc.memory.database import Database, Priority
from dreamsvc.memory.store import Store
from dreamsvc.v1.memory_service_pb2 import RememberRequest

# Between what is done too early and what should have been done before it.
GAP_S = 0.004


def acknowledge_early() -> None:
    """Callers hear of their write before its commit."""
    write = Database.write

    def early[T](
        self: Database,
        run: Callable[[Any], T],
        *,
        committed: Callable[[T], None] | None = None,
        priority: Priority = Priority.USER,
    ) -> Future[T]:
        told: Future[T] = Future()

        def and_tell(connection: Any) -> T:
            result = run(connection)
            told.set_result(result)
            time.sleep(GAP_S)
            return result

        def and_fail(done: Future[T]) -> None:
            if not told.done():
                told.set_exception(done.exception())

        write(self, and_tell, committed=committed, priority=priority).add_done_callback(and_fail)
        return told

    Database.write = early


def forget_requests() -> None:
    """A request that comes again is carried out again."""

    def always(connection: Any, request: Any, *, run: Callable[[], Any], **_: Any) -> tuple[Any, bool]:
        return run(), True

    requests.once = always


def remember_in_two() -> None:
    """The first memory of a request has a commit of its own."""
    remember = Store.remember

    def in_two(self: Store, request: RememberRequest) -> Future[Any]:
        if len(request.memories) > 1:
            first = RememberRequest(space=request.space, memories=request.memories[:1])
            remember(self, first).result()
            time.sleep(GAP_S)
            del request.memories[0]
        return remember(self, request)

    Store.remember = in_two
