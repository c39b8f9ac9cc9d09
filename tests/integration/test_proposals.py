"""Nights that merge, over a real channel with a real dreamer: proposed, approved, rejected, taken back, and killed."""

import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    ApproveDreamRequest,
    ApproveDreamResponse,
    DiffDreamRequest,
    DreamEdit,
    EstimateDreamRequest,
    RejectDreamRequest,
    RejectDreamResponse,
    RevertRequest,
    RevertResponse,
)
from dreamsvc.v1.memory_pb2 import MEMORY_ROLE_FACET, MEMORY_ROLE_FOLDED, MEMORY_ROLE_UNSPECIFIED, Edge, Memory
from dreamsvc.v1.memory_service_pb2 import (
    ForgetRequest,
    GetMemoryRequest,
    GetStatsRequest,
    RecallRequest,
    RememberRequest,
)
from tests.integration.served import CONVERGE, AsProcess, Calls, InThread, merged, refused, until

pytestmark = pytest.mark.integration
TOPICS = ["river", "garden", "violin", "bakery", "harbour", "castle", "meadow", "lantern"]
VERBS = ["glows", "sleeps", "waits", "sings", "grows", "turns"]
QUICKLY = merged(CONVERGE, {"dream": {"resources": {"max_gpu_usage": 1.0}, "quality": {"probe_cues": 100}}})
_numbers = count()


def planted() -> RememberRequest:
    """Eight topics near each other by their vectors, six memories and a copy to the letter of each."""
    draw = random.Random(4)

    def near(center: list[float], spread: float) -> list[float]:
        found = [value + spread * draw.gauss(0, 1) for value in center]
        length = sum(value * value for value in found) ** 0.5
        return [value / length for value in found]

    request = RememberRequest()
    for number, topic in enumerate(TOPICS):
        center = near([0.0] * 32, 1)
        for place, verb in enumerate(VERBS):
            request.memories.add(
                key=f"{topic}-{verb}",
                text=f"the {topic} {verb} softly",
                vector=near(center, 0.05),
                importance=draw.random(),
            )
            target = f"{topic}-{VERBS[(place + 1) % len(VERBS)]}"
            request.edges.add(source=f"{topic}-{verb}", target=target, weight=0.3 + 0.6 * draw.random())
        request.memories.add(key=f"{topic}-again", text=f"the {topic} glows softly", vector=near(center, 0.05))
        other = TOPICS[(number + 1) % len(TOPICS)]
        request.edges.add(source=f"{topic}-again", target=f"{other}-sings", weight=0.5)
    return request


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InThread]:
    holding = {"dream": {"hold_spaces": ["held"]}}
    with InThread(tmp_path_factory.mktemp("proposals") / "memory.db", QUICKLY, holding) as service:
        yield service


@pytest.fixture
def calls(served: InThread) -> Calls:
    return served.calls


@pytest.fixture
def space(calls: Calls) -> str:
    name = f"planted-{next(_numbers)}"
    calls.remember(name, planted())
    return name


def propose(calls: Calls, space: str, **fields: Any) -> Dream:
    dream = calls.trigger(space, blocking=True, propose=True, **({"seed": 7} | fields)).dream
    assert dream.state == Dream.STATE_PROPOSED, dream
    return dream


def approve(calls: Calls, space: str, dream: Dream, request_id: str = "") -> ApproveDreamResponse:
    request = ApproveDreamRequest(space=space, dream_id=dream.id, request_id=request_id)
    return calls.call(calls.dreams.ApproveDream, request)


def reject(calls: Calls, space: str, dream: Dream, request_id: str = "") -> RejectDreamResponse:
    request = RejectDreamRequest(space=space, dream_id=dream.id, request_id=request_id)
    return calls.call(calls.dreams.RejectDream, request)


def revert(calls: Calls, space: str, dream: Dream) -> RevertResponse:
    return calls.call(calls.dreams.Revert, RevertRequest(space=space, dream_id=dream.id))


def diff(calls: Calls, space: str, dream: Dream, **fields: Any) -> list[DreamEdit]:
    found: list[DreamEdit] = []
    token = ""
    while True:
        request = DiffDreamRequest(space=space, dream_id=dream.id, page_size=7, page_token=token, **fields)
        answer = calls.call(calls.dreams.DiffDream, request)
        found += answer.edits
        token = answer.next_page_token
        if not token:
            return found


def memory(calls: Calls, space: str, key: str) -> Memory:
    return calls.call(calls.memories.GetMemory, GetMemoryRequest(space=space, id=key)).memory


def best(calls: Calls, space: str, text: str) -> str:
    hits = calls.call(calls.memories.Recall, RecallRequest(space=space, text=text, limit=1)).hits
    return str(hits[0].memory.text)


def content(calls: Calls, space: str) -> list[dict[str, Any]]:
    """What the file holds, but for what recalls leave in it."""
    lines, _ = calls.export(space)
    return [{name: value for name, value in line.items() if not name.startswith("access")} for line in lines]


def doctor(store: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dreamsvc", "doctor", "--store", str(store)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def in_order(store: Path) -> None:
    found = doctor(store)
    assert found.returncode == 0, found.stdout + found.stderr


# ── a whole night and the way back ──────────────────────────────────────────────


def test_a_night_merges_copies_and_topics_and_a_revert_brings_all_of_it_back(
    served: InThread, calls: Calls, space: str
) -> None:
    before = content(calls, space)
    told = calls.call(calls.dreams.EstimateDream, EstimateDreamRequest(space=space))
    dream = calls.trigger(space, blocking=True, seed=7).dream
    assert dream.state == Dream.STATE_SUCCEEDED, dream
    compression = dream.report.compression
    assert compression.redundancy.eliminated == len(TOPICS)
    assert compression.nodes_after < compression.nodes_before == 56
    assert compression.facets > 20
    assert compression.retention.measured
    assert compression.retention.loss_high <= compression.retention.max_information_loss
    stats = calls.call(calls.memories.GetStats, GetStatsRequest(space=space))
    assert (stats.folded, stats.facets) == (len(TOPICS), compression.facets)
    assert stats.memories + stats.folded == 56 + compression.schemas
    # Every text is found as before.
    for topic in TOPICS:
        for verb in VERBS:
            assert best(calls, space, f"the {topic} {verb} softly") == f"the {topic} {verb} softly"
    edits = diff(calls, space, dream, with_weights=True)
    kinds = [edit.kind for edit in edits]
    assert kinds.count(DreamEdit.KIND_ELIMINATED) == len(TOPICS)
    assert kinds.count(DreamEdit.KIND_MERGED) == stats.containers > 1
    weighed = {DreamEdit.KIND_EDGE_STRENGTHENED, DreamEdit.KIND_EDGE_WEAKENED, DreamEdit.KIND_EDGE_PRUNED}
    assert [edit for edit in edits if edit.kind not in weighed] == diff(calls, space, dream)
    assert told.nodes_touched >= 56
    assert told.edges_touched >= dream.report.edges_strengthened + dream.report.edges_weakened
    in_order(served.app.store.path)
    answer = revert(calls, space, dream)
    assert content(calls, space) == before
    assert answer.memories_removed == stats.containers + compression.schemas
    in_order(served.app.store.path)


def test_two_nights_are_taken_back_one_after_the_other(served: InThread, calls: Calls, space: str) -> None:
    digests = [calls.export(space)[1]]
    nights: list[Dream] = []
    for seed in (1, 2):
        nights.append(calls.trigger(space, blocking=True, seed=seed).dream)
        assert nights[-1].state == Dream.STATE_SUCCEEDED
        digests.append(calls.export(space)[1])
    assert len(set(digests)) == 3
    assert refused(lambda: revert(calls, space, nights[0])).reason == "CHANGED_LATER"
    for dream, digest in zip(reversed(nights), reversed(digests[:-1]), strict=True):
        revert(calls, space, dream)
        assert calls.export(space)[1] == digest
    in_order(served.app.store.path)


def test_a_pinned_memory_is_untouched_and_listed(calls: Calls, space: str) -> None:
    pinned = Memory(key="river-again", text="the river glows softly", vector=[1.0] * 32, pinned=True)
    calls.call(calls.memories.Remember, RememberRequest(space=space, memories=[pinned]))
    before = memory(calls, space, "river-again")
    dream = calls.trigger(space, blocking=True, seed=7).dream
    assert dream.report.compression.pinned == 1
    assert list(dream.report.compression.pinned_ids) == [before.id]
    after = memory(calls, space, "river-again")
    after.ClearField("replay_count")
    before.ClearField("replay_count")
    assert after == before


# ── proposals ───────────────────────────────────────────────────────────────────


def test_a_proposal_is_not_applied_and_is_what_a_dry_run_of_the_same_seed_foresees(calls: Calls, space: str) -> None:
    _, before = calls.export(space)
    dry = calls.trigger(space, blocking=True, dry_run=True, seed=7).dream
    dream = propose(calls, space)
    assert dream.report.journal_digest == dry.report.journal_digest
    assert dream.report.operations == dry.report.operations
    assert calls.export(space)[1] == before
    foreseen = diff(calls, space, dream, with_weights=True)
    assert {edit.kind for edit in foreseen} >= {DreamEdit.KIND_ELIMINATED, DreamEdit.KIND_MERGED}
    status = calls.status(space)
    assert not status.dream_available
    assert f"dream {dream.id} waits for approval" in status.why_not_dreaming
    error = refused(lambda: calls.trigger(space))
    assert error.reason == "DREAM_PROPOSED"
    assert dream.id in error.message
    assert refused(lambda: revert(calls, space, dream)).reason == "CHANGED_LATER"
    approved = approve(calls, space, dream, "yes").dream
    assert approved.state == Dream.STATE_SUCCEEDED
    assert approved.report.journal_digest == dream.report.journal_digest
    assert approved.report.compression.redundancy.eliminated == len(TOPICS)
    assert calls.export(space)[1] != before
    # What it did is what it said it would do.
    assert diff(calls, space, approved, with_weights=True) == foreseen
    assert approve(calls, space, dream, "yes").dream.id == dream.id
    assert refused(lambda: approve(calls, space, dream)).reason == "CHANGED_LATER"
    assert refused(lambda: reject(calls, space, dream)).reason == "CHANGED_LATER"
    revert(calls, space, approved)
    assert calls.export(space)[1] == before


def test_a_rejected_proposal_leaves_nothing(calls: Calls, space: str) -> None:
    _, before = calls.export(space)
    dream = propose(calls, space)
    answer = reject(calls, space, dream, "no").dream
    assert answer.state == Dream.STATE_DISCARDED
    assert reject(calls, space, dream, "no").dream == answer
    for again in (reject, approve):
        assert refused(lambda again=again: again(calls, space, dream)).reason == "CHANGED_LATER"
    assert calls.export(space)[1] == before
    assert not diff(calls, space, dream)
    assert calls.trigger(space, blocking=True, seed=7).dream.state == Dream.STATE_SUCCEEDED


def test_what_users_change_while_it_waits_is_theirs(served: InThread, calls: Calls, space: str) -> None:
    dream = propose(calls, space)
    copies = {
        shown.key
        for edit in diff(calls, space, dream)
        if edit.kind == DreamEdit.KIND_ELIMINATED
        for shown in edit.memories[1:]
    }
    inside = [
        [shown.key for shown in edit.memories]
        for edit in diff(calls, space, dream)
        if edit.kind == DreamEdit.KIND_MERGED and len(edit.memories) > 2
    ]
    copy, member, gone = sorted(copies)[0], inside[0][0], inside[-1][-1]
    mine = [Memory(key=copy, text="mine"), Memory(key=member, text="mine as well")]
    calls.call(calls.memories.Remember, RememberRequest(space=space, memories=mine))
    calls.call(calls.memories.Forget, ForgetRequest(space=space, ids=[gone]))
    _, waiting = calls.export(space)
    approved = approve(calls, space, dream).dream
    assert approved.state == Dream.STATE_SUCCEEDED
    assert any("as users had changed them meanwhile" in notice for notice in approved.report.compression.notices)
    for key, text in ((copy, "mine"), (member, "mine as well")):
        found = memory(calls, space, key)
        assert (found.text, found.role) == (text, MEMORY_ROLE_UNSPECIFIED)
    assert memory(calls, space, gone).HasField("delete_time")
    assert {memory(calls, space, key).role for key in copies - {copy}} == {MEMORY_ROLE_FOLDED}
    assert {memory(calls, space, key).role for key in inside[0][1:] if key != gone} == {MEMORY_ROLE_FACET}
    in_order(served.app.store.path)
    revert(calls, space, approved)
    assert calls.export(space)[1] == waiting
    in_order(served.app.store.path)


def test_a_proposal_of_a_memory_that_was_taken_back_since_is_refused(calls: Calls, space: str) -> None:
    first = calls.trigger(space, blocking=True, seed=1).dream
    dream = propose(calls, space, seed=2)
    revert(calls, space, first)
    _, before = calls.export(space)
    error = refused(lambda: approve(calls, space, dream))
    assert error.reason == "CHANGED_LATER"
    assert "taken back" in error.message
    assert reject(calls, space, dream).dream.state == Dream.STATE_DISCARDED
    assert calls.export(space)[1] == before


def test_a_space_on_hold_is_neither_dreamt_of_nor_purged(served: InThread, calls: Calls) -> None:
    calls.remember("held", planted())
    assert refused(lambda: calls.trigger("held")).reason == "ON_HOLD"
    assert "on hold" in calls.status("held").why_not_dreaming
    calls.call(calls.memories.Forget, ForgetRequest(space="held", ids=["river-glows"]))
    held = list(served.app.in_force.dream.hold_spaces)
    while served.app.store.purge_next(0, held).result(10).total:
        pass
    assert memory(calls, "held", "river-glows").text == "the river glows softly"


def test_every_dream_waits_where_the_configuration_says_so_and_a_restart_keeps_it(tmp_path: Path) -> None:
    store = tmp_path / "memory.db"
    asking = {"dream": {"propose": True}}
    with InThread(store, QUICKLY, asking) as service:
        service.calls.remember("default", planted())
        _, before = service.calls.export("default")
        dream = service.calls.trigger("default", blocking=True, seed=7).dream
        assert (dream.state, dream.propose) == (Dream.STATE_PROPOSED, True)
        foreseen = diff(service.calls, "default", dream, with_weights=True)
    with InThread(store, QUICKLY, asking) as service:
        calls = service.calls
        assert calls.dream("default", dream.id).state == Dream.STATE_PROPOSED
        assert refused(lambda: calls.trigger("default")).reason == "DREAM_PROPOSED"
        assert calls.export("default")[1] == before
        assert diff(calls, "default", dream, with_weights=True) == foreseen
        approved = approve(calls, "default", dream).dream
        assert approved.report.compression.redundancy.eliminated == len(TOPICS)
        revert(calls, "default", approved)
        assert calls.export("default")[1] == before
        asked = calls.trigger("default", blocking=True, seed=7, propose=False).dream
        assert asked.state == Dream.STATE_SUCCEEDED
    in_order(store)


# ── killed in the middle ────────────────────────────────────────────────────────

DYING = """
    import os, signal, sys

    if "serve" in sys.orig_argv:
        from dreamsvc.memory.store import Store

        real, left = Store.{method}, {slices}

        def dying(self, *given):
            global left
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return real(self, *given)

        Store.{method} = dying
"""


def dying(monkeypatch: pytest.MonkeyPatch, directory: Path, method: str, slices: int) -> None:
    """Services that start from here on kill themselves before the slice of that number."""
    directory.mkdir(exist_ok=True)
    (directory / "sitecustomize.py").write_text(textwrap.dedent(DYING.format(method=method, slices=slices)))
    monkeypatch.setenv("PYTHONPATH", str(directory))


@pytest.mark.parametrize("slices", [0, 3])
def test_a_service_that_is_killed_while_it_folds_and_while_it_reverts_ends_what_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slices: int
) -> None:
    store = tmp_path / "memory.db"
    with AsProcess(store, QUICKLY) as service:
        service.calls.remember("default", planted())
        before = content(service.calls, "default")
        service.end()
    with monkeypatch.context() as broken:
        dying(broken, tmp_path / "site", "fold_next", slices)
        with AsProcess(store, QUICKLY) as service:
            dream = service.calls.trigger("default", seed=7).dream
            assert service.process.wait(60) == -signal.SIGKILL
    assert "sealed and not yet folded" in doctor(store).stdout
    with AsProcess(store, QUICKLY) as service:
        ended = service.calls.dream("default", dream.id)
        assert ended.state == Dream.STATE_SUCCEEDED
        assert ended.report.compression.redundancy.eliminated == len(TOPICS)
        assert best(service.calls, "default", "the violin turns softly") == "the violin turns softly"
        service.end()
    in_order(store)
    with monkeypatch.context() as broken:
        dying(broken, tmp_path / "site", "revert_next", slices)
        with AsProcess(store, QUICKLY) as service:
            refused(lambda: revert(service.calls, "default", dream))
            assert service.process.wait(60) == -signal.SIGKILL
    assert "taken back in part" in doctor(store).stdout
    with AsProcess(store, QUICKLY) as service:
        until(lambda: service.calls.dream("default", dream.id).state == Dream.STATE_REVERTED)
        assert content(service.calls, "default") == before
        service.end()
    in_order(store)


def test_edges_at_what_a_night_made_are_in_the_way_and_named(calls: Calls, space: str) -> None:
    dream = calls.trigger(space, blocking=True, seed=7).dream
    facet = next(
        shown.key for edit in diff(calls, space, dream) if edit.kind == DreamEdit.KIND_MERGED for shown in edit.memories
    )
    box = memory(calls, space, facet).merged_into
    edge = Edge(source=box, target=facet, type="about")
    calls.call(calls.memories.Remember, RememberRequest(space=space, edges=[edge]))
    error = refused(lambda: revert(calls, space, dream))
    assert error.reason == "CHANGED_LATER"
    assert f"{box} -> {memory(calls, space, facet).id} (about)" in error.message
