"""Calls of the simulated users: what came of each is compared with what may come of it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from benchmarks.proof.ledger import Call, Expected
from benchmarks.proof.simulated_rules import EPSILON_S
from dreamsvc import contract, errors
from dreamsvc.errors import DreamsvcError
from dreamsvc.v1.dream_service_pb2 import (
    AbortRequest,
    ApproveDreamRequest,
    RejectDreamRequest,
    RevertRequest,
    TriggerRequest,
)
from dreamsvc.v1.memory_service_pb2 import ForgetRequest, RememberRequest, RestoreRequest

if TYPE_CHECKING:
    from benchmarks.proof.simulated_world import World

# What a call may be refused with; a store that takes no writes refuses with more.
REFUSALS: dict[type[Message], tuple[type[DreamsvcError], ...]] = {
    TriggerRequest: (
        errors.DreamInProgress,
        errors.DreamCooldown,
        errors.DreamProposed,
        errors.OnHold,
        errors.NotFound,
    ),
    AbortRequest: (errors.NotFound,),
    RevertRequest: (errors.DreamInProgress, errors.ChangedLater),
    ApproveDreamRequest: (errors.DreamInProgress, errors.ChangedLater),
    RejectDreamRequest: (errors.DreamInProgress, errors.ChangedLater),
    # An end of an edge may be forgotten in the same moment.
    RememberRequest: (errors.InvalidFields,),
}


class Calls:
    """Sends requests of a world's users."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._random = world.random
        self._requests = 0

    def _request_id(self) -> str:
        self._requests += 1
        return f"r{self._requests}"

    async def _write(self, request: Any, states: dict[str, Expected | None], call: Any) -> Any:
        """A change in one commit, for which it waits, and for nothing else."""
        world, service = self._world, self._world.service
        ledger, done, in_flight = world.promises.ledger, *self._listener(request, states)
        world.rules.called(request.space)

        async def heard(request: Any) -> Any:
            service.database.listener = done
            try:
                return await call(request)
            finally:
                if service.database.listener is done:
                    # It was refused before it came to the store.
                    service.database.listener = None

        writing = asyncio.ensure_future(self._call(request, heard))
        await asyncio.sleep(0)
        due_s = max(service.database.due_s, world.clock.now_s)
        answer = await writing
        if not world.alive(service):
            return None
        if answer is None and any(call is in_flight for call in ledger.calls):
            ledger.calls.remove(in_flight)
        if (late_s := world.clock.now_s - due_s) > EPSILON_S:
            world.tell_wrong(f"a {type(request).__name__} waited for {late_s:.6f} s more than its commit")
        return answer

    def _listener(self, request: Any, states: dict[str, Expected | None]) -> tuple[Callable[[Future[Any]], None], Call]:
        """Puts a call into the ledger, and what came of it as soon as that is on disk."""
        world, service, in_flight = self._world, self._world.service, Call(states, None)
        world.promises.ledger.calls.append(in_flight)

        def done(future: Future[Any]) -> None:
            if world.alive(service):
                self._happened(request, in_flight, None if future.exception() else future.result())

        return done, in_flight

    def _happened(self, request: Any, in_flight: Call, answer: Any) -> None:
        world = self._world
        if answer is None:
            world.promises.ledger.calls.remove(in_flight)
            return
        world.promises.ledger.happened(in_flight)
        if isinstance(request, RememberRequest):
            world.promises.stored(request, answer.ids)
        if in_flight.states and getattr(answer, "forgotten", True) and getattr(answer, "restored", True):
            world.rules.changed(request.space)

    async def _call(self, request: Any, call: Any) -> Any:
        """The answer, None where it was refused; tells of refusals that there is no reason for."""
        world, service = self._world, self._world.service
        began_s = world.clock.now_s
        world.count["calls"] += 1
        try:
            answer = await call(request)
        except DreamsvcError as error:
            world.trace(f"{type(request).__name__} {type(error).__name__}")
            expected = isinstance(error, REFUSALS.get(type(request), ())) or world.was_in_trouble(error, began_s)
            if world.alive(service) and not expected and not self._was_purged(request):
                world.tell_wrong(f"{type(request).__name__} was refused: {type(error).__name__}: {error.message}")
            return None
        world.trace(f"{type(request).__name__} {type(answer).__name__}")
        return answer

    def _was_purged(self, request: Any) -> bool:
        """Whether a memory is meant that is there no more, as it should be after some days."""
        wanted = isinstance(request, (ForgetRequest, RestoreRequest))
        return wanted and self._world.promises.let_go(self._world.service, f"{request.space}/{request.ids[0]}")


def filled[Request: Message](request: Request) -> Request:
    contract.fill(request)
    contract.check(request)
    return request
