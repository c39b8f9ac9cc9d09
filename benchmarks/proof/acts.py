"""Whole acts of a store's life, each planned before it is done, so that it can be done to a copy of the store first.

A plan reads; it gives the act, which takes the store, the ledger to note it in, and the digest that the export has
once it happened, where that is known.
"""

import base64
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.proof import parts
from benchmarks.proof.jumping_clock import DAY
from benchmarks.proof.ledger import Expected, Ledger, States
from benchmarks.proof.opened import SPACE, Opened
from dreamsvc import checkpoints, contract, entropy
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint
from dreamsvc.dreamer.v1.operations_pb2 import NewMemory, Operations
from dreamsvc.memory import backup
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.memory.standing import CONTAINER, FACET, FOLDED, PLAIN
from dreamsvc.server.importing import Importing
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import RevertRequest, TriggerRequest
from dreamsvc.v1.memory_pb2 import IMPORT_FORMAT_DREAMSVC_JSONL, Edge, Memory
from dreamsvc.v1.memory_service_pb2 import (
    ForgetRequest,
    ImportHeader,
    ImportRequest,
    RememberRequest,
    RestoreRequest,
    UnmergeRequest,
)

type Act = Callable[[Opened, Ledger, str | None], None]

DIMENSION = 16
WORDS = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "x", "y", "z")
MOST_MEMORIES = 48
PATIENCE_S = 60
RESTORE_US = 30 * DAY


class Impossible(Exception):
    """The store has nothing that the act could be done to."""


# ── what users do ───────────────────────────────────────────────────────────────


def remember(opened: Opened, ledger: Ledger, random: Random, number: int) -> Act:
    """New memories with edges among them, or, where there are many, another text for some."""
    if len(_keys(opened)) >= MOST_MEMORIES:
        return update(opened, ledger, random, number)
    memories = [_memory(random, f"m{number}-{i}") for i in range(4)]
    edges = [_edge(random, one.key, other.key) for one, other in itertools.pairwise(memories)]
    return _remembered(memories, edges)


def update(opened: Opened, ledger: Ledger, random: Random, number: int) -> Act:
    keys = _some(random, _keys(opened), 2)
    memories = [_memory(random, key) for key in keys]
    for memory in memories:
        # What stands for copies has to stay the most important of them.
        memory.importance = 0.9
    return _remembered(memories, [])


def link(opened: Opened, ledger: Ledger, random: Random, number: int) -> Act:
    keys = _some(random, _keys(opened), 4)
    return _remembered([], [_edge(random, one, other) for one, other in itertools.pairwise(keys)])


def _remembered(memories: Sequence[Memory], edges: Sequence[Edge]) -> Act:
    request = RememberRequest(space=SPACE, memories=memories, edges=edges)
    contract.fill(request)
    contract.check(request)

    def act(opened: Opened, ledger: Ledger, digest: str | None) -> None:
        with ledger.recorded(_as_expected(memories), digest):
            opened.store.remember(request).result(PATIENCE_S)

    return act


def forget(opened: Opened, ledger: Ledger, random: Random, number: int) -> Act:
    keys = _some(random, _keys(opened), 2)
    states = {key: ledger.acked[key]._replace(alive=False) for key in keys}

    def act(opened: Opened, ledger: Ledger, digest: str | None) -> None:
        with ledger.recorded(states, digest):
            opened.store.forget(ForgetRequest(space=SPACE, ids=keys)).result(PATIENCE_S)

    return act


def restore(opened: Opened, ledger: Ledger, random: Random, number: int) -> Act:
    query = f"SELECT key FROM nodes WHERE deleted_us IS NOT NULL AND role IN ({PLAIN}, {FACET}) AND key IS NOT NULL"
    keys = _some(random, [key for (key,) in opened.rows(f"{query} ORDER BY id")], 2, least=1)
    states = {key: ledger.acked[key]._replace(alive=True) for key in keys}

    def act(opened: Opened, ledger: Ledger, digest: str | None) -> None:
        with ledger.recorded(states, digest):
            opened.store.restore(RestoreRequest(space=SPACE, ids=keys)).result(PATIENCE_S)

    return act


def unmerge(opened: Opened, ledger: Ledger, random: Random, number: int) -> Act:
    merged = opened.rows(
        f"SELECT uid FROM nodes n WHERE deleted_us IS NULL AND (role={CONTAINER} AND EXISTS (SELECT 1 FROM nodes f"
        f" WHERE f.merged_into=n.id AND f.role={FACET} AND f.deleted_us IS NULL) OR EXISTS (SELECT 1 FROM nodes f"
        f" WHERE f.merged_into=n.id AND f.role={FOLDED} AND f.purged=0)) ORDER BY id"
    )
    (uid,) = _some(random, [uid for (uid,) in merged], 1, least=1)

    def act(opened: Opened, ledger: Ledger, digest: str | None) -> None:
        with ledger.recorded({}, digest):
            request = UnmergeRequest(space=SPACE, id=entropy.uuid_text(uid))
            opened.store.unmerge(request).result(PATIENCE_S)

    return act


def import_(opened: Opened, ledger: Ledger, random: Random, number: int) -> Act:
    """Memories and edges, in two parts of the journal."""
    memories = [_memory(random, f"i{number}-{i}") for i in range(4)]
    lines: list[Mapping[str, Any]] = [{"type": "space", "embedder": "client"}]
    for memory in memories:
        vector = base64.b64encode(np.asarray(memory.vector, "<f2").tobytes()).decode()
        told = {"key": memory.key, "text": memory.text, "importance": memory.importance, "vector": vector}
        lines.append({"type": "memory", **told})
    ends = [memory.key for memory in memories]
    lines += [{"type": "edge", "source": one, "target": ends[0], "weight": 0.25} for one in ends[1:]]
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    def act(opened: Opened, ledger: Ledger, digest: str | None) -> None:
        importing = Importing(opened.store, opened.journal, _Unasked(), _Unasked())  # pyright: ignore
        with ledger.recorded(_as_expected(memories), digest):
            opened.wait(importing.run(_requests(data)))

    return act


class _Unasked:
    """Stands for the scheduler and the embedding worker, which an import only gives notice to."""

    def note_call(self, space: str) -> None: ...

    def wake(self) -> None: ...


async def _requests(data: bytes) -> AsyncIterator[ImportRequest]:
    yield ImportRequest(header=ImportHeader(space=SPACE, format=IMPORT_FORMAT_DREAMSVC_JSONL))
    half = len(data) // 2
    for chunk in (data[:half], data[half:]):
        yield ImportRequest(chunk=chunk)


def purge(opened: Opened, ledger: Ledger, random: Random, number: int) -> Act:
    """All that was hidden longer ago than it can be restored; the clock was moved on before."""
    cutoff = opened.clock.kept_us() - RESTORE_US
    hidden = opened.rows("SELECT key FROM nodes WHERE deleted_us<? AND purged=0 AND key IS NOT NULL", cutoff)
    states = {key: None for (key,) in hidden}

    def act(opened: Opened, ledger: Ledger, digest: str | None) -> None:
        with ledger.recorded(states, digest):
            while opened.store.purge_next(RESTORE_US, []).result(PATIENCE_S).total:
                pass

    return act


def backup_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.backup")


def back_up(opened: Opened, ledger: Ledger, random: Random, number: int) -> Act:
    """Beside the open store; the one before it goes first."""

    def act(opened: Opened, ledger: Ledger, digest: str | None) -> None:
        shutil.rmtree(backup_path(opened.path), ignore_errors=True)
        made = backup.make(opened.path, backup_path(opened.path), now_us=opened.clock.now_us())
        assert made.content.spaces[0].digest == opened.digest(), "the backup holds something else than the store"

    return act


# ── what dreams do ──────────────────────────────────────────────────────────────


def dream(opened: Opened, ledger: Ledger, random: Random, number: int) -> Act:
    """From its begin to its end, with parts of every kind and a checkpoint on the way."""
    journal = made_parts(opened, random)
    uid = entropy.uuid_for("dream", str(number))

    def act(opened: Opened, ledger: Ledger, digest: str | None) -> None:
        change, record = begin(opened, uid)
        stage(opened, change, record, journal[:4], Checkpoint(format=checkpoints.FORMAT, seed=1, next_part=4))
        stage(
            opened, change, record, journal[4:], Checkpoint(format=checkpoints.FORMAT, seed=1, next_part=len(journal))
        )
        seal(opened, ledger, change, record, digest)
        opened.wait(opened.records.finish(opened.journal.dream(SPACE, uid)))

    return act


def suspend(opened: Opened, ledger: Ledger, random: Random, number: int) -> Act:
    """A dream that was woken: parts and a checkpoint are kept, nothing is applied."""
    journal = made_parts(opened, random)[:4]
    uid = entropy.uuid_for("dream", str(number))

    def act(opened: Opened, ledger: Ledger, digest: str | None) -> None:
        change, record = begin(opened, uid)
        record.state = Dream.STATE_SUSPENDED
        stage(opened, change, record, journal, Checkpoint(format=checkpoints.FORMAT, seed=1, next_part=4))
        ledger.kept(uid, len(journal))

    return act


def revert(opened: Opened, ledger: Ledger, random: Random, number: int) -> Act:
    """Takes the newest dream back; impossible where a user changed what it changed since."""
    row = opened.journal.latest(SPACE, [Dream.STATE_SUCCEEDED])
    if row is None or opened.rows("SELECT purged_us FROM changes WHERE id=?", row.change) != [(None,)]:
        raise Impossible("no dream can be taken back")
    request = RevertRequest(space=SPACE, dream_id=row.dream.id)

    def act(opened: Opened, ledger: Ledger, digest: str | None) -> None:
        with ledger.recorded({}, digest):
            opened.journal.begin_revert(request).result(PATIENCE_S)
        opened.wait(opened.records.take_back(opened.journal.dream(SPACE, request.dream_id)))

    return act


def begin(opened: Opened, uid: str) -> tuple[ChangeId, Dream]:
    record = Dream(id=uid, space=SPACE, state=Dream.STATE_RUNNING, seed=1)
    request = TriggerRequest(space=SPACE)
    begun = opened.journal.begin_dream(request, record, opened.config, opened.clock.now_us()).result(PATIENCE_S)[1]
    assert begun is not None
    return begun.change, record


def stage(
    opened: Opened, change: ChangeId, record: Dream, journal: Sequence[Operations], checkpoint: Checkpoint | None
) -> None:
    opened.journal.stage_dream(change, journal, checkpoint, record).result(PATIENCE_S)


def seal(opened: Opened, ledger: Ledger, change: ChangeId, record: Dream, digest: str | None) -> None:
    """From here on the dream counts, although it is not folded yet."""
    opened.journal.compact(change)
    record.state = Dream.STATE_FOLDING
    with ledger.recorded({}, digest):
        opened.journal.seal_dream(change, record).result(PATIENCE_S)


def made_parts(opened: Opened, random: Random) -> list[Operations]:
    """A journal with a part of every kind."""
    found = opened.rows(
        f"SELECT id, importance FROM nodes n WHERE deleted_us IS NULL AND role={PLAIN} AND apart=0 AND key IS NOT NULL"
        " AND EXISTS (SELECT 1 FROM vectors v WHERE v.node=n.id)"
        f" AND NOT EXISTS (SELECT 1 FROM nodes c WHERE c.merged_into=n.id AND c.role={FOLDED}) ORDER BY id"
    )
    importance: dict[int, float] = dict(found)
    edges = [edge for (edge,) in opened.rows("SELECT id FROM edges WHERE deleted_us IS NULL ORDER BY id")]
    nodes = _some(random, list(importance), 9, least=9)
    edges = _some(random, edges, 5, least=2)
    # The survivor of copies is the most important of them, so that its importance stays.
    one, copy = sorted(nodes[:2], key=lambda node: (-importance[node], node))
    members = nodes[2:5]
    vectors = opened.store.memories_by_row(SPACE, members, with_vectors=True)
    box = parts.container(1, {node: list(vectors[node].vector) for node in members})
    free = nodes[5:]
    a, b, c, d = free
    text = f"{random.choice(WORDS)} {random.choice(WORDS)}"
    schema = NewMemory(number=2, kind="schema", title="schema", text=text, importance=0.5, metadata="{}")
    return [
        parts.weights(0, {edge: random.randrange(1, 8) / 8 for edge in edges}),
        parts.marks(1, dict.fromkeys(free, 2)),
        parts.weights(2, {edge: random.randrange(1, 8) / 8 for edge in edges[1:]}, pruned=edges[-1:]),
        parts.marks(3, dict.fromkeys(nodes, 1)),
        parts.eliminations(4, (one, [copy])),
        parts.containers(5, box),
        parts.new_memories(6, schema),
        parts.new_edges(7, (-2, a, "abstracts", 0.5), (-2, b, "abstracts", 0.5), (a, c, "similar", 0.375)),
        parts.expansions(8, parts.expansion(a, {random.choice(WORDS): 0.5}, {c: 0.5})),
        parts.positions(9, {node: (random.randrange(-4, 4) / 8, 0.25) for node in free}),
        parts.blind_spots(10, (a, d, True), (b, d, False)),
        parts.walks(11, a, b),
    ]


# ── what they are made of ───────────────────────────────────────────────────────


def _memory(random: Random, key: str) -> Memory:
    text = " ".join(random.choices(WORDS, k=5)) + f" {key}"
    return Memory(
        key=key,
        text=text,
        importance=random.randrange(1, 8) / 8,
        vector=[random.randrange(-64, 64) / 32 + 1 / 64 for _ in range(DIMENSION)],
    )


def _edge(random: Random, source: str, target: str) -> Edge:
    return Edge(source=source, target=target, weight=random.randrange(1, 8) / 8)


def _as_expected(memories: Sequence[Memory]) -> States:
    return {memory.key: Expected(memory.text, memory.importance, True) for memory in memories}


def _keys(opened: Opened) -> list[str]:
    """Of living memories that stand for themselves or lie in a container."""
    query = f"SELECT key FROM nodes WHERE deleted_us IS NULL AND key IS NOT NULL AND role IN ({PLAIN}, {FACET})"
    return [key for (key,) in opened.rows(f"{query} ORDER BY id")]


def _some[T](random: Random, among: Sequence[T], count: int, *, least: int = 2) -> list[T]:
    """Raises Impossible where there are too few."""
    if len(among) < least:
        raise Impossible(f"{len(among)} of at least {least}")
    return random.sample(among, min(count, len(among)))
