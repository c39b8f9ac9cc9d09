"""Any life of a store, beside a dictionary that is told the same: after each act they say the same of all memories.

The short form is part of every run; `pytest tests/memory/test_life_machine.py --hypothesis-profile=long` goes on for
minutes, and finds other lives each time.
"""

import base64
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from benchmarks.proof.jumping_clock import DAY, SECOND
from dreamsvc import checkpoints
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Checkpoint
from dreamsvc.errors import ChangedLater, ImportMalformed
from dreamsvc.memory.sqlite import ChangeId
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import ApproveDreamRequest, RejectDreamRequest
from dreamsvc.v1.memory_pb2 import Edge, Memory
from tests.memory import life_model as model
from tests.memory.life_dreams import CONTROL, KIND, Drawn, draw, links, names, some
from tests.memory.life_model import Act, Dreamt, Link, Name, World
from tests.memory.life_store import LifeStore

LONG = settings.get_current_profile_name() == "long"
SHORT = settings(
    max_examples=16,
    stateful_step_count=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
KEYS = [f"k{i}" for i in range(9)]
WORDS = ("j", "x", "y", "z")
jumps = st.sampled_from([None, 0, -40 * 365 * DAY, -9 * DAY, -40 * SECOND, 40 * SECOND, 9 * DAY, 365 * DAY])
eighths = st.integers(1, 8).map(lambda n: n / 8)
picks = st.integers(0, 1 << 16)


class Entry(NamedTuple):
    """What happened, for good unless it was a dream that is taken back."""

    act: Act
    change: ChangeId | None = None
    digest_before: str = ""


class Known(NamedTuple):
    """All that a test knows of a store; it goes with a backup."""

    history: tuple[Entry, ...] = ()
    # How many of these are older than what can be taken back.
    settled: int = 0
    # A dream that was interrupted, or that waits for somebody's word.
    waiting: Drawn | None = None
    # When a dream was taken back last.
    reverted: int = 0

    def world(self) -> World:
        world = World()
        for entry in self.history:
            entry.act(world)
        return world


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = LifeStore()
        self.room = self.store.room
        self.step = 0
        self.known = Known()
        self.world = World()
        self.saved: Known | None = None

    def teardown(self) -> None:
        self.store.remove()

    # ── what is common to the rules ─────────────────────────────────────────────

    def begin(self) -> int:
        """Numbers an act; no two happen at one time."""
        self.step += 1
        self.room.clock.us += SECOND
        return self.step

    def happened(self, entry: Entry) -> None:
        self.known = self.known._replace(history=(*self.known.history, entry))
        entry.act(self.world)

    # ── what users do ───────────────────────────────────────────────────────────

    @initialize()
    def there_are_some(self) -> None:
        step = self.begin()
        told = {key: (f"{WORDS[i % 4]} {key}", 0.5) for i, key in enumerate(KEYS[:6])} | {CONTROL: ("nothing", 0.5)}
        links = {(one, other, KIND): 0.5 for one, other in itertools.combinations(KEYS[:6], 2)}
        self._remember(step, told, links)

    @rule(
        told=st.dictionaries(
            st.sampled_from(KEYS), st.tuples(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), eighths)
        ),
        weight=eighths,
        pick=picks,
        count=st.integers(0, 3),
    )
    def remember(self, told: Mapping[str, tuple[list[str], float]], weight: float, pick: int, count: int) -> None:
        step = self.begin()
        memories = {key: (f"{' '.join(words)} {key}", importance) for key, (words, importance) in told.items()}
        # A container goes when all that it held was rewritten.
        then = self.world.copy()
        model.remembered(step, memories, {})(then)
        ends = [name for name, one in then.memories.items() if one.alive and name != CONTROL]
        self._remember(step, memories, dict.fromkeys(links(self.world, ends, pick, count), weight))

    def _remember(self, step: int, told: Mapping[Name, tuple[str, float]], edges_: Mapping[Link, float]) -> None:
        if not told and not edges_:
            return
        memories = [
            Memory(key=key, text=text, importance=importance, vector=vector(key, step))
            for key, (text, importance) in told.items()
        ]
        ends = {
            name: name if name in (*KEYS, CONTROL) else self.store.id_of(name) for link in edges_ for name in link[:2]
        }
        edges = [
            Edge(source=ends[one], target=ends[other], type=kind, weight=weight)
            for (one, other, kind), weight in edges_.items()
        ]
        self.room.remember(*memories, edges=edges)
        self.happened(Entry(model.remembered(step, told, edges_)))

    @rule(pick=picks, count=st.integers(1, 4))
    def forget(self, pick: int, count: int) -> None:
        step = self.begin()
        chosen = some([*names(self.world), *names(self.world, "folded", alive=False)], pick, count)
        if chosen:
            self.room.forget(*map(self.store.id_of, chosen))
            self.happened(Entry(model.forgotten(step, chosen)))

    @rule(pick=picks, count=st.integers(1, 3))
    def bring_back(self, pick: int, count: int) -> None:
        step = self.begin()
        chosen = some(names(self.world, "plain", "container", "facet", "folded", alive=False), pick, count)
        if chosen:
            self.room.restore(*map(self.store.id_of, chosen))
            self.happened(Entry(model.restored(step, chosen)))

    @rule(pick=picks, one_by_one=st.booleans())
    def unmerge(self, pick: int, one_by_one: bool) -> None:
        merged = [name for name in names(self.world) if self.world.held_by(name, "folded")]
        chosen = some([*names(self.world, "container", "facet"), *merged], pick, 1)
        if chosen and one_by_one and self.world.memories[chosen[0]].role == "container":
            # The container is gone after the last.
            chosen = [name for name in self.world.held_by(chosen[0], "facet") if self.world.memories[name].alive]
        for name in chosen:
            step = self.begin()
            self.room.unmerge(self.store.id_of(name))
            self.happened(Entry(model.unmerged(step, name)))

    @invariant()
    def recall_finds_what_lives(self) -> None:
        word = WORDS[self.step % len(WORDS)]
        found = {hit.node for hit in self.room.find(word, limit=50)}
        told = {
            self.store.row(name)
            for name, one in self.world.memories.items()
            if one.alive and one.role in ("plain", "facet") and word in one.text.split()
        }
        assert told <= found, "a memory is not found by its word"
        living = {self.store.row(name) for name in [*names(self.world, "plain", "facet"), CONTROL]}
        assert found <= living, "something is found that does not live"

    # ── what dreams do ──────────────────────────────────────────────────────────

    @precondition(lambda self: self.known.waiting is None)
    @rule(
        pick=picks,
        weight=eighths,
        meanwhile=st.sampled_from(["nothing", "rewritten", "linked", "forgotten"]),
        killed_after=st.none() | st.integers(0, 3),
    )
    def dream(self, pick: int, weight: float, meanwhile: str, killed_after: int | None) -> None:
        self.begin()
        drawn = draw(self.store, self.world, self.step, pick, weight)
        self._meanwhile(meanwhile, drawn.told, pick, weight)
        self._seal(drawn, killed_after)

    def _meanwhile(self, what: str, told: Dreamt, pick: int, weight: float) -> None:
        """A user changes some of what a dream is about."""
        step = self.begin()
        about = [*told.copies, *itertools.chain(*told.copies.values()), *told.members]
        about = some([name for name in dict.fromkeys(about) if name in KEYS], pick, 2)
        if what == "linked":
            self._remember(step, {}, dict.fromkeys([*told.weights][1:4], 1 - weight / 2))
        elif what == "rewritten":
            self._remember(step, {key: (f"x {key}", weight) for key in about}, {})
        elif what == "forgotten" and about:
            self.room.forget(*about)
            self.happened(Entry(model.forgotten(step, about)))

    def _seal(self, drawn: Drawn, killed_after: int | None = None) -> None:
        """From its last part to its fold, with a kill after some slices of that."""
        before = self.room.digest()
        self.room.seal(drawn.change, drawn.dream, *drawn.parts)
        step = self.begin()
        if killed_after is not None:
            self.room.fold(drawn.change, slices=killed_after)
            self.store.kill()
        self.room.fold(drawn.change)
        self.happened(Entry(model.dreamt(step, drawn.told), drawn.change, before))

    @precondition(lambda self: self.known.waiting is None)
    @rule(pick=picks, weight=eighths, propose=st.booleans())
    def begin_to_dream(self, pick: int, weight: float, propose: bool) -> None:
        """It is interrupted, or its outcome waits for somebody's word."""
        before = self.room.digest()
        self.begin()
        drawn = draw(self.store, self.world, self.step, pick, weight)
        drawn.dream.state = Dream.STATE_SUSPENDED
        checkpoint = Checkpoint(format=checkpoints.FORMAT, next_part=len(drawn.parts))
        self.room.journal.stage_dream(drawn.change, drawn.parts, checkpoint, drawn.dream).result(10)
        if propose:
            self.room.journal.compact(drawn.change)
            drawn.dream.state = Dream.STATE_PROPOSED
            self.room.journal.propose_dream(drawn.change, drawn.dream).result(10)
        self.known = self.known._replace(waiting=drawn)
        assert self.room.digest() == before

    @precondition(lambda self: self.known.waiting is not None)
    @rule(give_up=st.booleans(), another_is_taken_back=st.booleans())
    def go_on_dreaming(self, give_up: bool, another_is_taken_back: bool) -> None:
        if another_is_taken_back:
            self.revert(back=0, killed_after=None)
        waiting = self.known.waiting
        assert waiting is not None
        before = self.room.digest()
        self.begin()
        self.known = self.known._replace(waiting=None)
        unfit = self.known.reverted > waiting.told.base
        if waiting.dream.state == Dream.STATE_PROPOSED:
            self._decide(waiting, give_up=give_up, unfit=unfit)
            return
        found = self.room.journal.resumable("default", 1e9)
        assert found is not None
        assert (found.row.change, bool(found.unfit), found.staged) == (waiting.change, unfit, waiting.parts)
        assert found.checkpoint == Checkpoint(format=checkpoints.FORMAT, next_part=len(waiting.parts))
        if give_up or unfit:
            waiting.dream.state = Dream.STATE_DISCARDED
            self.room.journal.drop_dream(waiting.change, waiting.dream).result(10)
            assert self.room.digest() == before
        else:
            self._seal(waiting)

    def _decide(self, waiting: Drawn, *, give_up: bool, unfit: bool) -> None:
        before = self.room.digest()
        if not give_up:
            approval = ApproveDreamRequest(space="default", dream_id=waiting.dream.id)
            try:
                self.room.journal.approve_dream(approval).result(10)
            except ChangedLater:
                assert unfit
            else:
                assert not unfit
                self.room.fold(waiting.change)
                self.happened(Entry(model.dreamt(self.begin(), waiting.told), waiting.change, before))
                return
        self.room.journal.reject_dream(RejectDreamRequest(space="default", dream_id=waiting.dream.id)).result(10)
        assert self.room.digest() == before

    @rule(back=st.integers(0, 3), killed_after=st.none() | st.integers(0, 3))
    def revert(self, back: int, killed_after: int | None) -> None:
        """What it leaves is what would be if it had never been; or it is refused, and changes nothing."""
        history = self.known.history
        dreams = [i for i in range(self.known.settled, len(history)) if history[i].change is not None]
        if not dreams:
            return
        place = dreams[-1 - back % len(dreams)]
        change, last = history[place].change, place == len(history) - 1
        assert change is not None
        before = self.room.digest()
        step = self.begin()
        refusal = None
        try:
            self.room.revert(change, slices=killed_after)
        except ChangedLater as error:
            refusal = error.message
        if refusal is not None:
            assert not last
            assert "changed again later" in refusal
            assert self.room.digest() == before
            return
        if killed_after is not None:
            self.store.kill()
            self.room.go_on_reverting(change)
        self._taken_back(place, step)
        if last:
            assert self.room.digest() == history[place].digest_before

    def _taken_back(self, place: int, step: int) -> None:
        history = self.known.history
        if all(entry.change is None for entry in history[place + 1 :]):
            self.known = self.known._replace(history=(*history[:place], *history[place + 1 :]), reverted=step)
            self.world = self.known.world()
            return
        # A later dream may have left out what this one had made already.
        before = Known(history[:place]).world()
        after = before.copy()
        history[place].act(after)
        model.undone(self.world, before, after)
        self.known = self.known._replace(history=(Entry(model.being(self.world.copy())),), settled=1, reverted=step)

    # ── what happens to the process, the machine and its clock ──────────────────

    @rule(how=st.sampled_from(["killed", "ended", "ended, and its snapshot is lost", "goes on"]), ahead_us=jumps)
    def the_process(self, how: str, ahead_us: int | None) -> None:
        if ahead_us is not None:
            self.room.clock.ahead_us = ahead_us
            self.room.store.keep_time().result(10)
        match how:
            case "killed":
                self.store.kill()
            case "goes on":
                pass
            case _:
                self.room.reopen(snapshot=how == "ended")

    @rule()
    def purge(self) -> None:
        self.room.clock.us += 31 * DAY
        self.room.store.keep_time().result(10)
        self.room.purge()
        self.happened(Entry(model.purged()))
        self.known = self.known._replace(settled=len(self.known.history))

    # ── files ───────────────────────────────────────────────────────────────────

    @rule(broken=st.booleans(), weight=eighths, pick=picks)
    def import_(self, broken: bool, weight: float, pick: int) -> None:
        step = self.begin()
        keys = some(KEYS, pick, 3)
        told = {key: (f"{WORDS[pick % 4]} imported {key}", weight) for key in keys}
        links = {(keys[0], key, KIND): weight for key in keys[1:]}
        lines = [{"type": "space", "embedder": "client"}]
        lines += [
            {"type": "memory", "key": key, "text": text, "importance": weight, "vector": encoded(vector(key, step))}
            for key, (text, weight) in told.items()
        ]
        lines += [{"type": "edge", "source": one, "target": other, "weight": weight} for one, other, _ in links]
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        before = self.room.digest()
        if broken:
            with pytest.raises(ImportMalformed):
                self.room.import_(data + b"{]\n", chunk=64)
            assert self.room.digest() == before
            return
        self.room.import_(data, chunk=64)
        self.happened(Entry(model.imported(step, told, links)))

    @rule(backup_too=st.booleans())
    def export(self, backup_too: bool) -> None:
        if backup_too:
            self.store.back_up()
            self.saved = self.known
        assert self.store.reads_back()

    @precondition(lambda self: self.saved is not None)
    @rule()
    def put_the_backup_back(self) -> None:
        assert self.saved is not None
        self.begin()
        self.store.put_the_backup_back()
        self.known = self.saved
        self.world = self.known.world()

    # ── after each of them ──────────────────────────────────────────────────────

    @invariant()
    def all_say_the_same(self) -> None:
        told = {
            name: (one.text, one.importance, one.alive, one.role, one.into) for name, one in self.world.memories.items()
        }
        assert self.store.memories() == told
        assert self.room.edges() == {link: edge.weight for link, edge in self.world.edges.items() if edge.alive}
        self.room.in_order()


def vector(key: str, step: int) -> list[float]:
    return np.random.default_rng([*key.encode(), step]).integers(1, 9, 4).astype(float).tolist()


def encoded(values: list[float]) -> str:
    return base64.b64encode(np.asarray(values, "<f2").tobytes()).decode()


TestLife: Callable[..., Any] = Life.TestCase
TestLife.settings = settings() if LONG else SHORT  # type: ignore[attr-defined]
TestLife = pytest.mark.timeout(0 if LONG else 120)(TestLife)
