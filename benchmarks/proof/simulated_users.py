"""Users of the simulated service: what they do, when, and what they may expect of the answers."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from google.protobuf import duration_pb2

from benchmarks.proof.ledger import Call, Expected
from benchmarks.proof.simulated_calls import Calls, filled
from benchmarks.proof.simulated_rules import EPSILON_S
from dreamsvc.errors import StoreUnavailable
from dreamsvc.server.importing import KEPT
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    AbortRequest,
    AbortResponse,
    ApproveDreamRequest,
    EstimateDreamRequest,
    GetStatusRequest,
    ListDreamsRequest,
    RejectDreamRequest,
    RevertRequest,
    StreamStatusRequest,
    TriggerRequest,
    TriggerResponse,
)
from dreamsvc.v1.memory_pb2 import IMPORT_FORMAT_DREAMSVC_JSONL, Edge, Memory
from dreamsvc.v1.memory_service_pb2 import (
    ForgetRequest,
    ImportHeader,
    ImportRequest,
    ListMemoriesRequest,
    RecallRequest,
    RecallResponse,
    RememberRequest,
    RememberResponse,
    RestoreRequest,
)

if TYPE_CHECKING:
    from benchmarks.proof.simulated_world import World

SPACES = ("default", "work", "home")
KEYS = 24
DIMENSION = 8
# For so long a first answer is kept in any case.
REMEMBERED_S = 16 * 3600.0
WORDS = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")


class Users(Calls):
    """They act side by side, and nobody waits for another."""

    def __init__(self, world: "World") -> None:
        super().__init__(world)
        self._last_remembered: tuple[RememberRequest, RememberResponse, float] | None = None
        self._last_triggered: tuple[TriggerRequest, TriggerResponse, float] | None = None
        self._seen: dict[str, int] = {}
        self._acts: dict[Callable[[], Awaitable[None]], int] = {
            self.remember: 14,
            self.remember_again: 2,
            self.import_: 1,
            self.forget: 3,
            self.restore: 2,
            self.recall: 12,
            self.trigger: 9,
            self.trigger_again: 2,
            self.abort: 5,
            self.revert: 2,
            self.approve: 3,
            self.reject: 1,
            self.status: 9,
            self.watch: 4,
            self.look: 2,
        }

    async def live(self) -> None:
        """Acts until the service ends."""
        acts, weights = list(self._acts), list(self._acts.values())
        while True:
            await asyncio.sleep(self._pause_s())
            act = self._random.choices(acts, weights)[0]
            self._world.begin(act())

    def visit(self) -> None:
        """Somebody comes by in the middle of a night."""
        acts = (self.recall, self.recall, self.abort, self.abort, self.remember, self.trigger, self.status, self.watch)
        act, after_s = self._random.choice(acts), 10 ** self._random.uniform(-2.5, 1.3)
        asyncio.get_running_loop().call_later(after_s, lambda: self._world.begin(act()))

    def _pause_s(self) -> float:
        """Most comes in bursts, and while somebody dreams; between them are minutes, and hours."""
        drawn = self._random.random()
        if self._world.rules.dreaming() and drawn < 0.5:
            return self._random.expovariate(1.0)
        if drawn < 0.6:
            return self._random.expovariate(4.0)
        if drawn < 0.9:
            return self._random.uniform(1, 120)
        return self._random.uniform(120, self._world.longest_pause_s)

    # ── memories ────────────────────────────────────────────────────────────────

    def _a_memory(self, key: str) -> Memory:
        return Memory(
            key=key,
            text=f"{' '.join(self._random.sample(WORDS, 3))} {self._random.randrange(10**6)}",
            importance=self._random.randint(1, 8) / 8,
            vector=[self._random.uniform(-1, 1) for _ in range(DIMENSION)],
        )

    def _space(self) -> str:
        dreaming = self._world.rules.dreaming()
        if dreaming and self._random.random() < 0.4:
            return self._random.choice(dreaming)
        return self._random.choices(SPACES, (6, 3, 2))[0]

    def remembering(self) -> RememberRequest:
        space = self._space()
        keys = self._random.sample(range(KEYS), self._random.randint(1, 4))
        acked = self._world.promises.ledger.acked
        known = [key for key in range(KEYS) if f"{space}/m{key}" in acked and acked[f"{space}/m{key}"].alive]
        memories = [self._a_memory(f"m{key}") for key in keys]
        ends = [f"m{key}" for key in dict.fromkeys((*keys, *known))]
        edges = [
            Edge(source=one, target=two, type="near", weight=self._random.randint(1, 8) / 8)
            for one, two in itertools.pairwise(ends)
            if self._random.random() < 0.5
        ]
        request = RememberRequest(space=space, memories=memories, edges=edges)
        if self._random.random() < 0.5:
            request.request_id = self._request_id()
        return filled(request)

    def _states(self, request: RememberRequest) -> dict[str, Expected | None]:
        return {
            f"{request.space}/{memory.key}": Expected(memory.text, memory.importance, True)
            for memory in request.memories
        }

    async def remember(self) -> None:
        request = self.remembering()
        answer = await self._write(request, self._states(request), self._world.service.memory.remember)
        if answer is not None and request.request_id:
            self._last_remembered = request, answer, self._world.clock.passed_s

    def remember_now(self) -> None:
        """From another thread, while one waits for the store."""
        world, request = self._world, self.remembering()
        world.rules.called(request.space)
        world.service.scheduler.note_call(request.space)
        done, _ = self._listener(request, self._states(request))
        world.service.store.remember(request).add_done_callback(done)

    async def remember_again(self) -> None:
        """The same request once more: the same answer, and nothing happens."""
        if self._last_remembered is None:
            return
        request, first, at_s = self._last_remembered
        if self._world.clock.passed_s - at_s > REMEMBERED_S:
            return
        answer = await self._write(request, {}, self._world.service.memory.remember)
        if answer is not None and answer != first:
            self._world.tell_wrong(f"request {request.request_id} got another answer the second time")

    async def import_(self) -> None:
        """Some memories from a file, all of them or none; what is there already stays as it is."""
        world, space = self._world, self._space()
        taken = world.promises.ledger.acked.keys() | world.promises.ledger.pending.keys()
        keys = [
            key for key in (f"i{self._random.randrange(10_000)}" for _ in range(3)) if f"{space}/{key}" not in taken
        ]
        memories = {key: self._a_memory(key) for key in keys}
        if not memories:
            return
        lines = (
            {"type": "memory", "key": key, "text": one.text, "importance": one.importance}
            for key, one in memories.items()
        )
        header = filled(ImportHeader(space=space, format=IMPORT_FORMAT_DREAMSVC_JSONL))
        body = "".join(json.dumps(line) + "\n" for line in lines).encode()

        async def file() -> AsyncIterator[ImportRequest]:
            yield ImportRequest(header=header)
            for start in range(0, len(body), 200):
                yield ImportRequest(chunk=body[start : start + 200])

        states = {f"{space}/{one.key}": Expected(one.text, one.importance, True) for one in memories.values()}
        in_flight, service = Call(states, None), world.service
        world.promises.ledger.calls.append(in_flight)
        world.rules.called(space)
        kept = False

        async def sent(_: Any) -> Any:
            nonlocal kept
            try:
                return await service.memory.import_(file())
            except StoreUnavailable as error:
                kept = KEPT in error.metadata
                raise

        answer = await self._call(header, sent)
        # What is kept is stored when the disk allows it, or by the next start.
        if world.alive(service) and not kept:
            self._happened(header, in_flight, answer)

    async def forget(self) -> None:
        space = self._space()
        known = [
            key for key, state in self._world.promises.ledger.acked.items() if key.startswith(space) and state.alive
        ]
        if known:
            key = self._random.choice(known)
            state = self._world.promises.ledger.acked[key]
            request = filled(ForgetRequest(space=space, ids=[key.partition("/")[2]]))
            answer = await self._write(request, {key: state._replace(alive=False)}, self._world.service.memory.forget)
            # A copy that lies hidden already has been there since its night.
            if answer is not None and answer.forgotten:
                self._world.promises.forgotten(key)

    async def restore(self) -> None:
        hidden = [key for key, state in self._world.promises.ledger.acked.items() if not state.alive]
        if hidden:
            key = self._random.choice(hidden)
            space, _, name = key.partition("/")
            state = self._world.promises.ledger.acked[key]
            request = filled(RestoreRequest(space=space, ids=[name]))
            await self._write(request, {key: state._replace(alive=True)}, self._world.service.memory.restore)

    async def recall(self) -> None:
        space, world = self._space(), self._world
        if space not in world.service.store.space_names():
            return
        request = filled(RecallRequest(space=space, text=" ".join(self._random.sample(WORDS, 2)), limit=5))
        began_s = world.clock.now_s
        world.rules.called(space)
        answer = await self._call(request, world.service.memory.recall)
        if world.clock.now_s != began_s:
            world.tell_wrong(f"a recall waited for {world.clock.now_s - began_s:.6f} s")
        if isinstance(answer, RecallResponse) and answer.woke_dream:
            world.count["wakes"] += 1

    # ── dreams ──────────────────────────────────────────────────────────────────

    async def trigger(self) -> None:
        random = self._random
        request = TriggerRequest(space=self._space(), abort_on_query=random.random() < 0.7)
        request.phase = random.choice(dream_pb2.DreamPhase.values())
        request.dry_run = random.random() < 0.1
        request.fresh = random.random() < 0.1
        request.blocking = random.random() < 0.2
        if random.random() < 0.3:
            request.seed = random.randrange(3)
        if random.random() < 0.2:
            request.propose = random.random() < 0.6
        if random.random() < 0.2:
            request.budget.CopyFrom(duration_pb2.Duration(seconds=random.randint(1, 5)))
        if random.random() < 0.5 and not request.dry_run:
            request.request_id = self._request_id()
        answer = await self._trigger(filled(request))
        if answer is not None and request.request_id:
            self._last_triggered = request, answer, self._world.clock.passed_s

    async def trigger_again(self) -> None:
        if self._last_triggered is None:
            return
        request, first, at_s = self._last_triggered
        if self._world.clock.passed_s - at_s > REMEMBERED_S:
            return
        answer = await self._trigger(request)
        if answer is not None and answer.dream.id != first.dream.id:
            self._world.tell_wrong(f"trigger {request.request_id} started dream {first.dream.id} and {answer.dream.id}")

    async def _trigger(self, request: TriggerRequest) -> TriggerResponse | None:
        rules = self._world.rules
        rules.triggers[request.space] += 1
        try:
            return await self._call(request, self._world.service.dreams.trigger)
        finally:
            rules.triggers[request.space] -= 1

    async def abort(self) -> None:
        request = filled(AbortRequest(space=self._space(), discard=self._random.random() < 0.25))
        if request.space not in self._world.service.store.space_names():
            return
        began_s, rules = self._world.clock.now_s, self._world.rules
        rules.alone[request.space] += request.discard
        answer = await self._call(request, self._world.service.dreams.abort)
        rules.alone[request.space] -= request.discard
        if isinstance(answer, AbortResponse) and answer.was_dreaming:
            self._world.count["wakes"] += 1
            budget_s = self._world.service.config.dream.resources.wake_latency_ms / 1000
            if self._world.clock.now_s - began_s > budget_s + EPSILON_S:
                self._world.tell_wrong(f"an abort took {self._world.clock.now_s - began_s:.3f} s, more than its budget")
        if request.discard and answer is not None:
            rules.given_up(request.space)

    async def revert(self) -> None:
        found = self._world.in_state(Dream.STATE_SUCCEEDED)
        if found:
            dream = self._random.choice(found[-3:])
            request = filled(RevertRequest(space=dream.space, dream_id=dream.id))
            answer = await self._alone(request, self._world.service.dreams.revert)
            if answer is not None and answer.dream.state != Dream.STATE_REVERTED:
                self._world.tell_wrong(f"dream {dream.id} was taken back and is {answer.dream.state}")

    async def approve(self) -> None:
        await self._decide(ApproveDreamRequest, lambda: self._world.service.dreams.approve_dream)

    async def reject(self) -> None:
        await self._decide(RejectDreamRequest, lambda: self._world.service.dreams.reject_dream)

    async def _decide(self, kind: Any, call: Callable[[], Any]) -> None:
        found = self._world.in_state(Dream.STATE_PROPOSED)
        if found:
            request = filled(kind(space=found[-1].space, dream_id=found[-1].id))
            answer = await self._alone(request, call())
            if answer is not None:
                self._world.rules.decided(request.space, answer.dream)

    async def _alone(self, request: Any, call: Any) -> Any:
        rules = self._world.rules
        rules.alone[request.space] += 1
        try:
            return await self._call(request, call)
        finally:
            rules.alone[request.space] -= 1

    async def status(self) -> None:
        space, world = self._space(), self._world
        if space not in world.service.store.space_names():
            return
        rules, asked_us = world.rules, world.clock.now_us()
        situation = rules.situation(space)
        answer = await self._call(filled(GetStatusRequest(space=space)), world.service.dreams.get_status)
        # Where nothing came in between; what is said is of the moment of the call.
        if answer is not None and rules.situation(space) == situation and world.clock.now_us() - asked_us < 100_000:
            rules.check_status(space, answer)

    async def look(self) -> None:
        space, world = self._space(), self._world
        if space not in world.service.store.space_names():
            return
        dreams, memory = world.service.dreams, world.service.memory
        await self._call(filled(ListDreamsRequest(space=space)), dreams.list_dreams)
        await self._call(filled(EstimateDreamRequest(space=space)), dreams.estimate_dream)
        await self._call(filled(ListMemoriesRequest(space=space)), memory.list_memories)

    async def watch(self) -> None:
        """Follows a space, at times slowly, and misses nothing without being told."""
        space, world = self._space(), self._world
        if space not in world.service.store.space_names():
            return
        again = space in self._seen and self._random.random() < 0.5
        request = filled(StreamStatusRequest(space=space, after_sequence=self._seen[space] if again else 0))
        slow = self._random.random() < 0.3
        watched = world.watched(space, request.after_sequence)
        stream: AsyncIterator[Any] = world.service.dreams.stream_status(request)
        async for event in stream:
            watched.saw(event)
            if event.WhichOneof("event") != "heartbeat":
                self._seen[space] = event.sequence
            if slow:
                await asyncio.sleep(self._random.uniform(0, 2))
