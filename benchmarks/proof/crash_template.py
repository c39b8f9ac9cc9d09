"""A store with dreams that wait for a word, dreamed by the real dreamer; each life of the proof begins with a copy."""

import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from benchmarks.proof import crash_dreams
from benchmarks.proof.crash_dreams import Proposal
from benchmarks.proof.crash_servers import Calls, Server, ServerHangs, Servers, Tables
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import ApproveDreamRequest, RejectDreamRequest, RevertRequest, TriggerRequest
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest

SETTINGS: Tables = {
    "dream": {
        "trigger": {"automatic": False},
        # Dreamed to its end, whatever the machine is busy with; so a dream is the same every time.
        "nrem": {"pace": "converge", "batch_size": 16},
        "resources": {"max_gpu_usage": 1.0, "checkpoint_seconds": 0.05, "wake_latency_ms": 300.0},
    },
    "embedder": {"kind": "none"},
    "server": {"port": 0, "grace_seconds": 0.2, "heartbeat_seconds": 0.5},
}
# Written to by clients alone; slept in, and never dreamed to an end.
BUSY, SLEEPY = "busy", "sleepy"
DREAM_S = 120.0
DIMENSION = 16
HEADS = ("Ba", "De", "Fi", "Go", "Lu", "Mi", "No", "Pu", "Ra", "Se", "Ti", "Vo")
TAILS = ("lran", "mosk", "nderg")
DEEDS = ("painted doors", "kept bees", "sold clocks", "baked bread", "mended nets", "taught chess")


class Wanted(NamedTuple):
    """A dream that is dreamed again and again, and how it ends when nobody disturbs it."""

    phase: int
    seed: int
    # Digests of its space without and with it, and of its journal.
    before: str
    after: str
    journal: str


class Template(NamedTuple):
    """A directory with a closed store, and what is known of the dreams in it."""

    directory: Path
    proposals: list[Proposal]
    night: Wanted


def prepare(directory: Path, seed: int, phases: Sequence[int], night: int, told: Callable[[], object]) -> Template:
    """Dreams once in each of some phases, in a space each, and folds all of it in a copy, without a kill.

    night: the phase of the dream that will be dreamed again and again. told: called after each.
    """
    directory.mkdir()
    proposals: list[Proposal] = []
    with Servers(directory, SETTINGS) as servers:
        server, calls = started(servers)
        calls.memories.Remember(RememberRequest(space=BUSY, memories=[Memory(key="first", text="a b c")]))
        for number, phase in enumerate([*phases, night]):
            space = SLEEPY if number == len(phases) else f"dream-{number}"
            calls.memories.Remember(places(space, f"{seed} {space}"))
            dream = _dreamed(calls, space, phase, seed + number)
            proposals.append(Proposal(space, dream.id, "", ""))
            told()
        stop(server, calls)
        _note_contents(servers.store, proposals, "before")
        _fold_all(Template(directory, proposals, Wanted(0, 0, "", "", "")))
        *others, sleepy = proposals
        # Nothing comes of it but that its end is known.
        server, calls = started(servers)
        rejected = calls.dreams.RejectDream(RejectDreamRequest(space=SLEEPY, dream_id=sleepy.dream_id)).dream
        stop(server, calls)
    journal = rejected.report.journal_digest
    return Template(directory, others, Wanted(night, rejected.seed, sleepy.before, sleepy.after, journal))


def plain(directory: Path) -> Template:
    """A store in which nothing was dreamed yet, and needs no dreamer."""
    directory.mkdir()
    with Servers(directory, SETTINGS) as servers:
        server, calls = started(servers)
        calls.memories.Remember(RememberRequest(space=BUSY, memories=[Memory(key="first", text="a b c")]))
        calls.memories.Remember(places(SLEEPY, SLEEPY))
        stop(server, calls)
        before = crash_dreams.contents_of(servers.store, SLEEPY)
    return Template(directory, [], Wanted(NREM, 0, before, "", ""))


def started(servers: Servers) -> tuple[Server, Calls]:
    """Raises ServerHangs where it does not serve."""
    server = servers.start()
    port = server.port()
    if port is None:
        raise ServerHangs(f"a server did not start; {server.tail()}")
    return server, Calls(port)


def copied(template: Template, directory: Path) -> list[Proposal]:
    """A copy of the store in `directory`, and of what is known of it."""
    directory.mkdir()
    shutil.copy(template.directory / "memory.db", directory)
    shutil.copytree(template.directory / "memory.db.snapshots", directory / "memory.db.snapshots")
    return [Proposal(one.space, one.dream_id, one.before, one.after) for one in template.proposals]


def places(space: str, seed: str) -> RememberRequest:
    """Places that name each other, some of them twice, with roads between them."""
    draw = Random(seed)
    names = [head + tail for tail in TAILS for head in HEADS]
    memories: list[Memory] = []
    for i, name in enumerate(names):
        text = f"A village where people {DEEDS[i % len(DEEDS)]} for {20 + i} years. Its road leads to {names[i - 1]}."
        vector = [draw.gauss(0, 1) for _ in range(DIMENSION)]
        memories.append(Memory(key=name, title=name, text=text, vector=vector, importance=0.3 + 0.7 * draw.random()))
        if i % 10 == 0:
            memories.append(Memory(key=f"{name} again", title=name, text=text, vector=vector, importance=0.25))
    roads = [
        Edge(source=name, target=names[(i + step) % len(names)], weight=0.06 + 0.9 * draw.random())
        for i, name in enumerate(names)
        for step in draw.sample(range(1, len(names)), 3)
    ]
    return RememberRequest(space=space, memories=memories, edges=roads)


def _dreamed(calls: Calls, space: str, phase: Any, seed: int) -> Dream:
    request = TriggerRequest(space=space, phase=phase, seed=seed, blocking=True, propose=True)
    request.budget.FromSeconds(int(DREAM_S))
    dream: Dream = calls.dreams.Trigger(request, timeout=DREAM_S).dream
    if dream.state != Dream.STATE_PROPOSED:
        raise ServerHangs(f"a dream ended as {Dream.State.Name(dream.state)}: {dream.message}")
    return dream


def _fold_all(template: Template) -> None:
    """Without a kill: what each dream makes of its space, and that it goes back to what it was."""
    aside = template.directory.with_name(f"{template.directory.name}.folded")
    reverted = copied(template, aside)
    with Servers(aside, SETTINGS) as servers:
        server, calls = started(servers)
        for one in reverted:
            calls.dreams.ApproveDream(ApproveDreamRequest(space=one.space, dream_id=one.dream_id), timeout=DREAM_S)
        _note_contents(servers.store, template.proposals, "after")
        for one in reverted:
            calls.dreams.Revert(RevertRequest(space=one.space, dream_id=one.dream_id), timeout=DREAM_S)
        _note_contents(servers.store, reverted, "before")
        stop(server, calls)
    assert [one.before for one in reverted] == [one.before for one in template.proposals], "a dream is not taken back"
    assert all(one.before != one.after for one in template.proposals), "a dream changes nothing"
    shutil.rmtree(aside)


def _note_contents(store: Path, proposals: Sequence[Proposal], into: str) -> None:
    for one in proposals:
        setattr(one, into, crash_dreams.contents_of(store, one.space))


def stop(server: Server, calls: Calls) -> None:
    """In good order; raises ServerHangs where that is not how it ends."""
    calls.close()
    server.send(signal.SIGTERM)
    if server.exit_code():
        raise ServerHangs(f"a server did not end well; {server.tail()}")


NREM, FULL = dream_pb2.DREAM_PHASE_NREM, dream_pb2.DREAM_PHASE_FULL_CYCLE
