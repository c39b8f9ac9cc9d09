"""What stands around simulated dreams: the private store, the edits, and the cleaning up."""

import asyncio
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamsvc import contract, entropy
from dreamsvc.clock import Clock
from dreamsvc.config import InForce, defaults
from dreamsvc.dream import simulating
from dreamsvc.dream.simulating import Simulating
from dreamsvc.errors import (
    Disabled,
    DreamFailed,
    DreamInProgress,
    EmbedderMissing,
    InvalidFields,
    ShuttingDown,
)
from dreamsvc.memory import embedding
from dreamsvc.memory.embedder import EmbeddingFailed
from dreamsvc.memory.journal import Journal
from dreamsvc.memory.store import Store
from dreamsvc.v1 import dream_pb2
from dreamsvc.v1.config_pb2 import Config
from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.dream_service_pb2 import (
    DiffDreamRequest,
    DiffDreamResponse,
    DreamEdit,
    SimulateRequest,
    SimulateResponse,
    TriggerRequest,
    TriggerResponse,
)
from dreamsvc.v1.memory_pb2 import Edge, Memory
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse


class Spaces:
    """The service's store and scheduler: which spaces there are, and where something dreams."""

    def __init__(self) -> None:
        self.dreaming: set[str] = set()

    def space_names(self) -> list[str]:
        return ["one", "two"]

    governor = None

    def running(self, space: str) -> object | None:
        return object() if space in self.dreaming else None


class Dreaming:
    """Stands for the private scheduler: every dream is over at once and changes nothing."""

    made: list["Dreaming"]
    begun: asyncio.Event
    state = Dream.STATE_SUCCEEDED
    pause_s = 0.0

    def __init__(self, store: Store, journal: Journal, config: InForce, clock: Clock, *, governor: object) -> None:
        self.store, self.journal, self.config, self.in_force = store, journal, config.dream, config
        self.requests: list[TriggerRequest] = []
        self.stats: list[GetStatsResponse] = []
        self.closed = False
        self.dreams: dict[str, Dream] = {}
        self.made.append(self)

    async def trigger(self, request: TriggerRequest, by: int) -> tuple[TriggerResponse, None]:
        assert by == dream_pb2.TRIGGERED_BY_REQUEST
        self.requests.append(request)
        self.begun.set()
        self.stats.append(self.store.stats(request.space))
        await asyncio.sleep(self.pause_s)
        dream = Dream(id=entropy.uuid7(len(self.requests)), space=request.space, state=self.state, seed=request.seed)
        _, begun = self.journal.begin_dream(request, dream, self.config, 1).result(10)
        assert begun is not None
        self.journal.compact(begun.change)
        self.journal.seal_dream(begun.change, dream).result(10)
        self.dreams[dream.id] = dream
        return TriggerResponse(dream=dream), None

    async def dream(self, space: str, dream_id: str) -> Dream:
        return self.dreams[dream_id]

    async def close(self) -> None:
        self.closed = True


class Letters:
    """One dimension for each of two letters."""

    id = "letters-2"
    dim = 2
    failing = False

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.failing:
            raise EmbeddingFailed("the endpoint is away")
        return np.array([[text.count(letter) for letter in "ab"] for text in texts], np.float32)


@pytest.fixture
def dreaming(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Dreaming]]:
    """The stand-in, with a folder of its own for what is temporary, which is empty in the end."""
    kind = type("Dreaming", (Dreaming,), {"made": [], "begun": asyncio.Event()})
    monkeypatch.setattr(simulating, "Scheduler", kind)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(embedding, "OPEN_AFTER_S", 0.0)
    yield kind
    assert list(tmp_path.iterdir()) == []
    assert all(one.closed for one in kind.made)


def config(embedder: str = "none") -> Config:
    found = defaults()
    found.embedder.kind = embedder
    return found


def service(spaces: Spaces | None = None, settings: Config | None = None) -> Simulating:
    spaces = spaces or Spaces()
    return Simulating(in_force(settings), spaces, spaces, Clock())  # pyright: ignore


def in_force(settings: Config | None = None) -> InForce:
    return InForce(settings or config())


def a_request(**fields: Any) -> SimulateRequest:
    request = SimulateRequest(
        memories=[Memory(key="x", text="a"), Memory(key="y", title="b"), Memory(key="z", text="zz")],
        edges=[Edge(source="x", target="y")],
        **fields,
    )
    contract.fill(request)
    contract.check(request)
    return request


# ── one after the other ─────────────────────────────────────────────────────────


def test_it_dreams_as_often_as_asked_with_one_seed_after_the_other(dreaming: type[Dreaming]) -> None:
    request = a_request(iterations=3, seed=2**64 - 2, phase=dream_pb2.DREAM_PHASE_REM, budget={"seconds": 7})
    answer = asyncio.run(service().simulate(request))
    (world,) = dreaming.made
    assert [sent.seed for sent in world.requests] == [2**64 - 2, 2**64 - 1, 0]
    assert {(sent.phase, sent.budget.seconds) for sent in world.requests} == {(dream_pb2.DREAM_PHASE_REM, 7)}
    assert [dream.seed for dream in answer.dreams] == [2**64 - 2, 2**64 - 1, 0]
    assert (answer.memories, answer.edges, answer.edits_total) == (3, 1, 0)


def test_the_phase_and_the_budget_are_the_dreams_own_where_none_is_asked_for(dreaming: type[Dreaming]) -> None:
    asyncio.run(service().simulate(a_request()))
    (sent,) = dreaming.made[0].requests
    assert sent.phase == dream_pb2.DREAM_PHASE_UNSPECIFIED
    assert not sent.HasField("budget")


def test_nothing_of_the_services_settings_keeps_it_from_dreaming(dreaming: type[Dreaming]) -> None:
    settings = config()
    settings.dream.propose = settings.dream.trigger.cooldown_for_manual = True
    settings.dream.max_parallel = 3
    settings.dream.hold_spaces.append(simulating.SPACE)
    settings.dream.spaces.add(space=simulating.SPACE, enabled=False)
    kept = Config.FromString(settings.SerializeToString())
    asyncio.run(service(settings=settings).simulate(a_request()))
    own = dreaming.made[0].config
    assert (own.propose, own.trigger.cooldown_for_manual, own.max_parallel, list(own.hold_spaces)) == (
        False,
        False,
        1,
        [],
    )
    assert not own.spaces
    assert own.nrem == settings.dream.nrem
    assert settings == kept


def test_a_dream_that_fails_fails_the_simulation(dreaming: type[Dreaming]) -> None:
    dreaming.state = Dream.STATE_FAILED
    with pytest.raises(DreamFailed, match="the simulated dream of seed 5 failed"):
        asyncio.run(service().simulate(a_request(seed=5)))


# ── vectors ─────────────────────────────────────────────────────────────────────


def test_texts_get_vectors_before_the_first_dream(dreaming: type[Dreaming], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "open_embedder", lambda kind, **_: Letters())
    asyncio.run(service(settings=config("auto")).simulate(a_request()))
    (stats,) = dreaming.made[0].stats
    # The third has no word that is known.
    assert (stats.embedder, stats.vectors, stats.to_embed) == ("letters-2", 2, 0)


def test_where_no_embedder_is_installed_it_dreams_by_words(
    dreaming: type[Dreaming], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "open_embedder", lambda kind, **_: None)
    asyncio.run(service(settings=config("auto")).simulate(a_request()))
    assert dreaming.made[0].stats[0].vectors == 0


def test_vectors_of_the_caller_are_not_mixed_with_others(
    dreaming: type[Dreaming], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "open_embedder", lambda kind, **_: Letters())
    request = a_request()
    request.memories[0].vector.extend([1, 0, 0])
    asyncio.run(service(settings=config("auto")).simulate(request))
    assert (dreaming.made[0].stats[0].embedder, dreaming.made[0].stats[0].vectors) == ("client", 1)


def test_an_embedder_that_fails_is_no_silent_loss(dreaming: type[Dreaming], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Letters, "failing", True)
    monkeypatch.setattr(embedding, "open_embedder", lambda kind, **_: Letters())
    with pytest.raises(EmbedderMissing, match="the endpoint is away"):
        asyncio.run(service(settings=config("auto")).simulate(a_request()))
    assert dreaming.made[0].requests == []


# ── refusals and ends ───────────────────────────────────────────────────────────


def test_it_is_refused_while_as_many_dream_as_may(dreaming: type[Dreaming]) -> None:
    spaces, settings = Spaces(), config()
    settings.dream.max_parallel = 2
    spaces.dreaming = {"one"}
    assert asyncio.run(service(spaces, settings).simulate(a_request())).dreams
    spaces.dreaming = {"one", "two"}
    with pytest.raises(DreamInProgress, match=r"and at most 2 may \(dream\.max_parallel\)"):
        asyncio.run(service(spaces, settings).simulate(a_request()))


def test_simulations_count_as_dreams_to_each_other(dreaming: type[Dreaming]) -> None:
    dreaming.pause_s = 0.2

    async def two() -> list[SimulateResponse | BaseException]:
        simulate = service().simulate
        return await asyncio.gather(simulate(a_request()), simulate(a_request()), return_exceptions=True)

    first, second = asyncio.run(two())
    assert isinstance(first, SimulateResponse)
    assert isinstance(second, DreamInProgress)


def test_it_waits_for_room_between_its_dreams(dreaming: type[Dreaming]) -> None:
    spaces = Spaces()
    dreaming.pause_s = 0.1

    async def crowded_meanwhile() -> int:
        work = asyncio.create_task(service(spaces).simulate(a_request(iterations=2)))
        await dreaming.begun.wait()
        spaces.dreaming = {"one"}
        await asyncio.sleep(0.3)
        begun = len(dreaming.made[0].requests)
        spaces.dreaming = set()
        await work
        return begun

    assert asyncio.run(crowded_meanwhile()) == 1
    assert len(dreaming.made[0].requests) == 2


def test_what_remember_would_refuse_is_refused(dreaming: type[Dreaming]) -> None:
    empty = a_request()
    empty.memories[1].title = " "
    with pytest.raises(InvalidFields, match=r"memories\[1\]\.text: is empty"):
        asyncio.run(service().simulate(empty))
    assert dreaming.made == []
    lost = a_request()
    lost.edges[0].target = "nobody"
    with pytest.raises(InvalidFields, match=r"edges\[0\]\.target: no memory"):
        asyncio.run(service().simulate(lost))


@pytest.mark.parametrize(("table", "switch"), [("dream", "enabled"), ("features", "simulate_enabled")])
def test_what_is_switched_off_refuses_and_names_the_key(dreaming: type[Dreaming], table: str, switch: str) -> None:
    settings = config()
    setattr(getattr(settings, table), switch, False)
    with pytest.raises(Disabled, match=rf"\({table}\.{switch}\)"):
        asyncio.run(service(settings=settings).simulate(a_request()))


@pytest.mark.parametrize(("table", "switch"), [("dream", "enabled"), ("features", "simulate_enabled")])
def test_one_that_runs_is_ended_by_the_switch_and_the_next_one_runs_when_it_is_on_again(
    dreaming: type[Dreaming], table: str, switch: str
) -> None:
    dreaming.pause_s = 0.05
    on, off = config(), config()
    setattr(getattr(off, table), switch, False)
    held = in_force(on)
    simulating = Simulating(held, Spaces(), Spaces(), Clock())  # pyright: ignore

    async def switched() -> None:
        work = asyncio.create_task(simulating.simulate(a_request(iterations=20)))
        await dreaming.begun.wait()
        held.exchange(off)
        held.exchange(on)
        with pytest.raises(Disabled, match=rf"\({table}\.{switch}\); nothing of the simulation is kept"):
            await work
        # It still cleans up what it had begun, and counts until then.
        await simulating.close()

    asyncio.run(switched())
    assert asyncio.run(service().simulate(a_request())).dreams


def test_what_it_may_take_follows_while_it_runs_and_nothing_else(dreaming: type[Dreaming]) -> None:
    dreaming.pause_s = 0.05
    held, changed = in_force(), config()
    changed.dream.resources.max_gpu_usage = 0.77
    changed.dream.nrem.batch_size = 77
    simulating = Simulating(held, Spaces(), Spaces(), Clock())  # pyright: ignore

    async def run() -> InForce:
        work = asyncio.create_task(simulating.simulate(a_request(iterations=2)))
        await dreaming.begun.wait()
        held.exchange(changed)
        await work
        return dreaming.made[0].in_force

    own = asyncio.run(run())
    assert own.dream.resources.max_gpu_usage == 0.77
    assert own.dream.nrem.batch_size != 77
    held.exchange(config())
    assert own.dream.resources.max_gpu_usage == 0.77, "it is over"


def test_where_dreams_may_not_be_parallel_one_dream_is_as_many_as_may(dreaming: type[Dreaming]) -> None:
    spaces, settings = Spaces(), config()
    settings.dream.max_parallel = 2
    settings.features.parallel_dreams_enabled = False
    assert asyncio.run(service(spaces, settings).simulate(a_request())).dreams
    spaces.dreaming = {"one"}
    with pytest.raises(DreamInProgress, match=r"at most 1 may \(features\.parallel_dreams_enabled\)"):
        asyncio.run(service(spaces, settings).simulate(a_request()))


def test_a_caller_that_goes_away_while_the_store_is_opened_leaves_nothing(
    dreaming: type[Dreaming], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entered, go, opened = threading.Event(), threading.Event(), list[Store]()

    def slowly(*arguments: Any) -> Store:
        entered.set()
        assert go.wait(10)
        opened.append(Store(*arguments))
        return opened[0]

    monkeypatch.setattr(simulating, "Store", slowly)

    async def cancelled() -> None:
        simulations = service()
        work = asyncio.create_task(simulations.simulate(a_request()))
        await asyncio.to_thread(entered.wait, 10)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert os.listdir(tmp_path) != []
        go.set()
        await simulations.close()

    asyncio.run(cancelled())
    assert len(opened) == 1
    assert dreaming.made == []


def test_the_end_of_the_service_ends_what_runs_and_lets_nothing_begin(dreaming: type[Dreaming]) -> None:
    dreaming.pause_s = 60.0

    async def ended() -> None:
        simulations = service()
        work = asyncio.create_task(simulations.simulate(a_request()))
        await dreaming.begun.wait()
        await simulations.close()
        with pytest.raises(ShuttingDown, match="nothing of the simulation is kept"):
            await work
        with pytest.raises(ShuttingDown):
            await simulations.simulate(a_request())

    asyncio.run(ended())


def test_cleaning_up_comes_to_its_end_though_it_is_cancelled_again_and_again() -> None:
    done: list[str] = []

    async def clean() -> None:
        await asyncio.sleep(0.05)
        done.append("clean")

    async def hurried() -> None:
        work = asyncio.create_task(simulating._to_its_end(clean()))  # pyright: ignore[reportPrivateUsage]
        for _ in range(3):
            await asyncio.sleep(0)
            work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(hurried())
    assert done == ["clean"]


# ── edits ───────────────────────────────────────────────────────────────────────


class Pages:
    """A journal of so many edits."""

    def __init__(self, count: int) -> None:
        self.count = count

    def diff(self, request: DiffDreamRequest) -> DiffDreamResponse:
        assert request.with_weights
        first = int(request.page_token or 0)
        last = min(first + request.page_size, self.count)
        return DiffDreamResponse(
            edits=[DreamEdit(what=str(number)) for number in range(first, last)],
            next_page_token=str(last) if last < self.count else "",
        )


def test_of_many_edits_the_first_are_shown_and_all_are_counted() -> None:
    answer = SimulateResponse()
    for count in (3, 9_998, 2_500, 0):
        simulating._add_edits(Pages(count), Dream(), answer)  # pyright: ignore
    assert answer.edits_total == 3 + 9_998 + 2_500
    assert len(answer.edits) == simulating.MOST_EDITS
    assert [edit.what for edit in answer.edits[:5]] == ["0", "1", "2", "0", "1"]
    assert answer.edits[-1].what == "9996"
