"""Clients that write, forget, restore, link, import, recall and give feedback until the server is gone."""

import base64
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message

from benchmarks.proof.crash_facts import LINK, MEMORY, PAIR, PREFIX, Call, Fact, Kept, Ledger, Linked
from benchmarks.proof.crash_servers import PATIENCE_S, Calls
from dreamsvc.v1.memory_pb2 import IMPORT_FORMAT_DREAMSVC_JSONL, Edge, Memory
from dreamsvc.v1.memory_service_pb2 import (
    FeedbackRequest,
    ForgetRequest,
    ImportHeader,
    ImportRequest,
    RecallRequest,
    RememberRequest,
    RestoreRequest,
)

DIMENSION = 16
# Of these the comparison of live graphs knows the weights.
WORDS = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "x", "y", "z")
# Enough for every act; after that a client rewrites what it has.
MOST_MEMORIES = 40
IMPORTED = 12


@dataclass
class Ending:
    """What clients are told of the server's end."""

    # From here on a call may fail.
    near: threading.Event = field(default_factory=threading.Event)
    # No new calls.
    over: threading.Event = field(default_factory=threading.Event)


class Client:
    """Writes to its own memories alone, one call after the other; so it knows what each must be."""

    def __init__(self, number: int, seed: str, spaces: Sequence[str]) -> None:
        self.ledger = Ledger()
        # What it found out of order, as sentences.
        self.wrong: list[str] = []
        self.recalls = 0
        self._number = number
        self._random = Random(f"{seed} client {number}")
        self._spaces = spaces
        self._made = 0
        self._calls = 0

    def work(self, calls: Calls, ending: Ending, first: str = "", pause_s: float = 0.0) -> None:
        """In a thread of its own, until the end. first: what it begins with."""
        while not ending.over.wait(pause_s):
            what, first = first or self._random.choice(_OFTEN), ""
            space = self._random.choice(self._spaces)
            try:
                self._act(what, space, calls)
            except grpc.RpcError as error:
                if not ending.near.is_set():
                    self.wrong.append(f"{what} was refused: {error.code().name}: {error.details()}")  # pyright: ignore
                return
            except Exception as error:
                self.wrong.append(f"{what} broke its client: {type(error).__name__}: {error}")
                return

    def _act(self, what: str, space: str, calls: Calls) -> None:
        if what == "recall":
            self._recall(space, calls)
            return
        call = self._feedback(space, calls) if what == "feedback" else _PLANS[what](self, space)
        if call is not None:
            self.ledger.begin(call)
            self.ledger.acknowledge(_canonical(call.send(calls)))

    def replay(self, calls: Calls) -> int:
        """Sends again what was sent before the kill; how many calls got their first answer."""
        done = 0
        if self.ledger.answered:
            call, first = self._random.choice(self.ledger.answered)
            try:
                again = _canonical(call.send(calls))
            except grpc.RpcError as error:
                again = str(error).encode()
            done += again == first
            if again != first:
                self.wrong.append(f"{call.what} was answered otherwise the second time: {first!r}, {again!r}")
        unanswered, self.ledger.unanswered = self.ledger.unanswered, None
        # Feedback is about a recall, which the new server does not know.
        if unanswered is not None and not unanswered.what.startswith("feedback") and self._random.random() < 0.7:
            self.ledger.begin(unanswered)
            try:
                self.ledger.acknowledge(_canonical(unanswered.send(calls)))
            except grpc.RpcError as error:
                self.wrong.append(f"{unanswered.what} was refused when it came again: {error}")
        return done

    # ── what it does ────────────────────────────────────────────────────────────

    def _remember(self, space: str) -> Call | None:
        if len(self._keys(space)) >= MOST_MEMORIES:
            return self._update(space)
        memories = [self._memory(self._new_key()) for _ in range(self._random.randint(1, 3))]
        after: dict[Fact, Any] = {(MEMORY, space, one.key): _kept(one, 0) for one in memories}
        ends = [*(one.key for one in memories), *self._some(self._keys(space, alive=True), 2)]
        edges = [self._edge(one, other) for one, other in pairwise(ends)]
        after |= {(LINK, space, one.source, one.target): Linked(one.weight, True) for one in edges}
        return self._remembered("remember", space, memories, edges, after)

    def _update(self, space: str) -> Call | None:
        """Another text; what was forgotten comes back by it."""
        memories = [self._memory(key) for key in self._some(self._keys(space), 2)]
        if not memories:
            return None
        after: dict[Fact, Any] = {}
        for one in memories:
            fact = (MEMORY, space, one.key)
            after[fact] = _kept(one, self.ledger.acked[fact].versions + 1)
        return self._remembered("update", space, memories, [], after | self._links_of(space, after))

    def _link(self, space: str) -> Call | None:
        ends = self._some(self._keys(space, alive=True), 4)
        edges = [self._edge(one, other) for one, other in pairwise(ends)]
        if not edges:
            return None
        after = {(LINK, space, one.source, one.target): Linked(one.weight, True) for one in edges}
        return self._remembered("link", space, [], edges, after)

    def _remembered(
        self, what: str, space: str, memories: Sequence[Memory], edges: Sequence[Edge], after: dict[Fact, Any]
    ) -> Call:
        request = RememberRequest(space=space, memories=memories, edges=edges, request_id=self._request_id())
        return Call(f"{what} {request.request_id}", lambda calls: _sent(calls.memories.Remember, request), after)

    def _forget(self, space: str) -> Call | None:
        keys = self._some(self._keys(space, alive=True), 2)
        if not keys:
            return None
        request = ForgetRequest(space=space, ids=keys, request_id=self._request_id())
        after = self._turned(space, keys, alive=False)
        return Call(f"forget {request.request_id}", lambda calls: _sent(calls.memories.Forget, request), after)

    def _restore(self, space: str) -> Call | None:
        keys = self._some(self._keys(space, alive=False), 2)
        if not keys:
            return None
        request = RestoreRequest(space=space, ids=keys, request_id=self._request_id())
        after = self._turned(space, keys, alive=True)
        return Call(f"restore {request.request_id}", lambda calls: _sent(calls.memories.Restore, request), after)

    def _import(self, space: str) -> Call | None:
        """Some new memories, and one that is known already, which stays as it is."""
        memories = [self._memory(self._new_key()) for _ in range(IMPORTED)]
        after: dict[Fact, Any] = {(MEMORY, space, one.key): _kept(one, 0) for one in memories}
        edges = [self._edge(one.key, other.key) for one, other in pairwise(memories)]
        after |= {(LINK, space, one.source, one.target): Linked(one.weight, True) for one in edges}
        known = [self._memory(key) for key in self._some(self._keys(space, alive=True), 1)]
        header = ImportHeader(space=space, format=IMPORT_FORMAT_DREAMSVC_JSONL, request_id=self._request_id())
        data = _lines([*memories, *known], edges)
        cut = self._random.randrange(len(data))
        parts = [ImportRequest(header=header), ImportRequest(chunk=data[:cut]), ImportRequest(chunk=data[cut:])]
        return Call(f"import {header.request_id}", lambda calls: _sent(calls.memories.Import, iter(parts)), after)

    def _recall(self, space: str, calls: Calls) -> list[str]:
        """Keys of its own that were found."""
        vector = self._vector() if self._random.random() < 0.3 else []
        request = RecallRequest(space=space, text=self._text(), vector=vector)
        answer = _sent(calls.memories.Recall, request)
        self.recalls += 1
        own = f"{PREFIX}{self._number}-"
        return [hit.memory.key for hit in answer.hits if hit.memory.key.startswith(own)]

    def _feedback(self, space: str, calls: Calls) -> Call | None:
        if not any(fact[0] == MEMORY and fact[1] == space for fact in self.ledger.acked):
            return None
        request = RecallRequest(space=space, text=f"{self._text()} {PREFIX}{self._number}", limit=20)
        answer = _sent(calls.memories.Recall, request)
        own = f"{PREFIX}{self._number}-"
        used = sorted(hit.memory.key for hit in answer.hits if hit.memory.key.startswith(own))[:2]
        if len(used) < 2:
            return None
        fact = (PAIR, space, *used)
        after = {fact: self.ledger.acked.get(fact, 0) + 1}
        said = FeedbackRequest(space=space, recall_id=answer.recall_id, used_ids=used, request_id=self._request_id())
        return Call(f"feedback {said.request_id}", lambda calls: _sent(calls.memories.Feedback, said), after)

    # ── what it knows ───────────────────────────────────────────────────────────

    def _turned(self, space: str, keys: Sequence[str], *, alive: bool) -> dict[Fact, Any]:
        after: dict[Fact, Any] = {}
        for key in keys:
            fact = (MEMORY, space, key)
            after[fact] = self.ledger.acked[fact]._replace(alive=alive)
        return after | self._links_of(space, after)

    def _links_of(self, space: str, after: dict[Fact, Any]) -> dict[Fact, Any]:
        """Links go and come with their ends."""
        known = self.ledger.acked | after
        keys = {fact[2] for fact in after}
        return {
            fact: value._replace(alive=all(known[MEMORY, space, end].alive for end in fact[2:]))
            for fact, value in self.ledger.acked.items()
            if fact[0] == LINK and fact[1] == space and keys.intersection(fact[2:])
        }

    def _keys(self, space: str, *, alive: bool | None = None) -> list[str]:
        return [
            fact[2]
            for fact, value in self.ledger.acked.items()
            if fact[0] == MEMORY and fact[1] == space and alive in (None, value.alive)
        ]

    def _some(self, among: Sequence[str], most: int) -> list[str]:
        return self._random.sample(among, min(most, len(among)))

    def _memory(self, key: str) -> Memory:
        vector = self._vector() if self._random.random() < 0.5 else []
        importance = self._random.randrange(1, 8) / 8
        return Memory(key=key, text=f"{self._text()} {key}", importance=importance, vector=vector)

    def _edge(self, source: str, target: str) -> Edge:
        return Edge(source=source, target=target, weight=self._random.randrange(1, 8) / 8)

    def _text(self) -> str:
        return " ".join(self._random.choices(WORDS, k=5))

    def _vector(self) -> list[float]:
        """Each a float16, none zero."""
        return [self._random.randrange(-64, 64) / 32 + 1 / 64 for _ in range(DIMENSION)]

    def _new_key(self) -> str:
        self._made += 1
        return f"{PREFIX}{self._number}-{self._made}"

    def _request_id(self) -> str:
        self._calls += 1
        return f"{self._number}-{self._calls}"


_PLANS: dict[str, Callable[[Client, str], Call | None]] = {
    "remember": Client._remember,
    "update": Client._update,
    "link": Client._link,
    "forget": Client._forget,
    "restore": Client._restore,
    "import": Client._import,
}
_OFTEN = [*("remember", "update", "link", "forget", "restore") * 3, "import", *("recall",) * 4, *("feedback",) * 2]


def _kept(memory: Memory, versions: int) -> Kept:
    vector = np.asarray(memory.vector, "<f2").tobytes()
    return Kept(memory.text, memory.importance, True, versions, vector)


def _lines(memories: Sequence[Memory], edges: Sequence[Edge]) -> bytes:
    lines: list[dict[str, Any]] = [{"type": "space", "embedder": "client"}]
    for one in memories:
        told = {"type": "memory", "key": one.key, "text": one.text, "importance": one.importance}
        if one.vector:
            told["vector"] = base64.b64encode(np.asarray(one.vector, "<f2").tobytes()).decode()
        lines.append(told)
    lines += [{"type": "edge", "source": one.source, "target": one.target, "weight": one.weight} for one in edges]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _sent(method: Callable[..., Any], request: Any) -> Any:
    return method(request, timeout=PATIENCE_S)


def _canonical(answer: Message) -> bytes:
    return answer.SerializeToString(deterministic=True)
