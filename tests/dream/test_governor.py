"""Dreams are held to their share by what is measured from outside (REQ-DREAM-016, 024); a test sets the meters."""

import asyncio
import contextlib
from collections.abc import Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamsvc import config
from dreamsvc.config import InForce
from dreamsvc.dream import governor as governing
from dreamsvc.dream.governor import Governor
from dreamsvc.dream.leash import on_gpu
from dreamsvc.dream.meters import MB
from dreamsvc.dream.share_window import ShareWindow
from dreamsvc.dreamer.v1.dreamer_service_pb2 import Allowance
from dreamsvc.gpu import UNKNOWN, Reading
from dreamsvc.v1.dream_pb2 import Share
from tests.dream.measured import FakeMachine, FakeMeter

STEP_S = 0.1


class Dream:
    """What the governor holds."""

    def __init__(self, *, gpu: bool = False) -> None:
        self.share = Share()
        self.on_gpu = gpu
        self.allowed: list[Allowance] = []
        self.why = ""
        self.gave_way = 0
        self.killed = ""

    def allow(self, allowance: Allowance, why_paused: str) -> None:
        self.allowed.append(allowance)
        self.why = why_paused

    def end_pause(self) -> None:
        self.gave_way += 1

    def too_large(self, what: str) -> None:
        self.killed = what


class Play:
    """A governor and one dreamer, on a clock that the test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, gpu: bool = False, **resources: float) -> None:
        settings = config.defaults()
        for name, value in resources.items():
            setattr(settings.dream.resources, name, value)
        self.machine, self.meter, self.dream = FakeMachine(), FakeMeter(), Dream(gpu=gpu)
        self.governor = Governor(InForce(settings), self.machine)
        self.now_s = 50.0
        self.used: list[tuple[float, float]] = []
        monkeypatch.setattr(governing.clock, "precise_s", lambda: self.now_s)
        # Nothing runs by itself here.
        monkeypatch.setattr(governing.Governor, "_run", _never)

    @contextlib.contextmanager
    def governed(self, *, was_warm: bool = True) -> Generator[None]:
        async def begin() -> None:
            stack.enter_context(self.governor.governing(self.dream, self.meter, was_warm=was_warm))

        with contextlib.ExitStack() as stack:
            asyncio.run(begin())
            yield

    def passes(self, seconds: float, *, cores: float, reading: Reading = UNKNOWN) -> None:
        """The dreamer keeps so many cores busy, while it is not held."""
        for _ in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            if not self.meter.held and self.meter.cpu_s is not None:
                self.meter.cpu_s += cores * STEP_S
            self.used.append((self.now_s, self.meter.cpu_s or 0.0))
            self.governor.look(self.now_s, reading)

    def worst_second(self) -> float:
        """Of all cores, over any second that begins and ends with a look."""
        steps = round(1 / STEP_S)
        pairs = zip(self.used, self.used[steps:], strict=False)
        return max(late[1] - early[1] for early, late in pairs) / self.machine.cores


async def _never(_: Governor) -> None:
    return


def test_what_cannot_rest_is_held_so_that_no_second_takes_more_than_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    with play.governed():
        play.passes(10, cores=1.0)
    assert play.worst_second() <= 0.30 + 1e-9
    # And it gets most of what it may have.
    assert 0.2 < play.dream.share.mean <= 0.30
    assert play.dream.share.holds == play.meter.holds > 5
    assert play.dream.share.max_second == pytest.approx(play.worst_second(), abs=1e-6)
    assert not play.meter.held, "nothing holds it once it is over"


@pytest.mark.parametrize("cores", [1.0, 2.0, 16.0])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_on_any_machine_a_busy_process_stays_within_its_share(
    monkeypatch: pytest.MonkeyPatch, cores: float, share: float
) -> None:
    play = Play(monkeypatch, max_gpu_usage=share)
    play.machine.cores = cores
    with play.governed():
        play.passes(10, cores=max(1.0, cores - 1))
    assert play.worst_second() <= share + 1e-9
    assert play.dream.share.mean > share / 3


def test_a_dream_that_rests_by_itself_is_neither_held_nor_slowed(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    with play.governed():
        play.passes(10, cores=0.5)
    assert (play.meter.holds, play.dream.share.throttles) == (0, 0)
    assert play.dream.allowed == [Allowance(max_share=0.3)]
    assert play.dream.share.mean == pytest.approx(0.25)


def test_a_share_that_is_exceeded_lowers_the_pace_and_room_raises_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    monkeypatch.setattr(play.meter, "hold", lambda: False)
    with play.governed():
        play.passes(3, cores=1.0)
        paces = [allowance.max_share / 0.3 for allowance in play.dream.allowed]
        assert paces[:3] == pytest.approx([1, 0.5, 0.25])
        assert play.dream.share.throttles == 3
        play.passes(20, cores=0.1)
    assert play.dream.allowed[-1].max_share == pytest.approx(0.3)
    assert play.governor.account.throttles == 3
    assert play.governor.account.highest == pytest.approx(0.5)


def test_the_start_of_a_process_counts_and_a_warm_one_has_rested(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    play.meter.cpu_s, play.meter.age = 0.35, 0.4
    with play.governed(was_warm=False):
        play.passes(0.1, cores=1.0)
        assert play.dream.share.max_second == pytest.approx(0.45 / 2)
        play.passes(2, cores=1.0)
    assert play.dream.share.max_second <= 0.30 + 1e-9
    again = Play(monkeypatch)
    again.meter.cpu_s = 500.0
    with again.governed():
        again.passes(0.1, cores=0.5)
        assert again.dream.share.max_second == pytest.approx(0.05 / 2)


def test_several_dreams_share_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    other, meter = Dream(), FakeMeter(8)
    with play.governed():
        assert play.governor.first_allowance() == Allowance(max_share=0.15)
        with play.governor.governing(other, meter, was_warm=True):
            play.passes(1, cores=0.2)
            assert play.dream.allowed[-1] == other.allowed[-1] == Allowance(max_share=0.15)
        play.passes(0.1, cores=0.2)
    assert play.dream.allowed[-1] == Allowance(max_share=0.3)


def test_a_dreamer_that_is_let_go_is_not_held_again(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)

    async def begin() -> None:
        with play.governor.governing(play.dream, play.meter, was_warm=True) as let_go:
            while not play.meter.held:
                play.passes(STEP_S, cores=2.0)
            let_go()
            assert not play.meter.held
            play.passes(1, cores=2.0)
            assert not play.meter.held

    asyncio.run(begin())


def test_a_reading_that_fails_is_counted_and_nothing_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    with play.governed():
        play.passes(1, cores=0.5)
        before = play.dream.share.mean
        play.meter.cpu_s = None
        play.passes(1, cores=0.5)
    assert (play.dream.share.unknown, play.dream.share.readings) == (10, 20)
    assert play.dream.share.mean == before > 0
    assert play.meter.holds == 0


def test_a_dreamer_that_cannot_be_measured_at_all_dreams_without_a_governor(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    play.meter.cpu_s = None
    with play.governed():
        play.passes(1, cores=2.0)
    assert play.dream.share == Share()
    assert play.governor.account.share is None


def test_memory_beyond_the_bound_ends_the_dreamer_and_says_which_key(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, max_memory_mb=500)
    with play.governed():
        play.meter.memory = 500 * MB
        play.passes(0.1, cores=0.5)
        assert play.dream.killed == ""
        play.meter.memory = 512 * MB
        play.passes(0.1, cores=0.5)
    assert play.dream.killed == (
        "it took 512 MB of memory, more than the 500 MB that it may (dream.resources.max_memory_mb)"
    )
    assert play.dream.share.max_memory_bytes == 512 * MB


def test_without_a_bound_it_may_take_half_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch)
    with play.governed():
        play.meter.memory = 4100 * MB
        play.passes(0.1, cores=0.5)
    assert "more than the 4,000 MB" in play.dream.killed


# ── of a GPU ────────────────────────────────────────────────────────────────────


def reading(ours: float | None = 0.2, total: float | None = 0.2, others_memory: float | None = 0.1) -> Reading:
    return Reading(ours, total, others_memory)


def test_of_a_gpu_the_share_is_what_the_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, gpu=True)
    with play.governed():
        play.passes(5, cores=0.1, reading=reading(ours=0.2))
        assert (play.dream.share.device, play.dream.share.throttles) == ("gpu", 0)
        assert play.dream.share.mean == pytest.approx(0.2)
        play.passes(2, cores=0.1, reading=reading(ours=0.6, total=0.6))
    assert play.dream.share.throttles >= 1
    assert play.dream.share.max_second == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("needed", "why"),
    [
        (reading(ours=0.2, total=0.95), "others use 75% of the GPU"),
        (reading(others_memory=0.9), "others have 90% of the GPU's memory"),
        # Where the driver does not tell processes apart.
        (reading(ours=None, total=1.0), "others use 70% of the GPU"),
    ],
)
def test_it_pauses_while_others_need_the_gpu_and_goes_on_when_they_are_done(
    monkeypatch: pytest.MonkeyPatch, needed: Reading, why: str
) -> None:
    play = Play(monkeypatch, gpu=True, pause_usage=0.69)
    with play.governed():
        play.passes(1, cores=0.1, reading=reading())
        # A moment is no need.
        play.passes(0.2, cores=0.1, reading=needed)
        play.passes(1, cores=0.1, reading=reading())
        assert play.dream.share.pauses == 0
        play.passes(5, cores=0.0, reading=needed)
        assert play.dream.allowed[-1].paused
        assert (play.dream.why, play.dream.share.pauses) == (why, 1)
        play.passes(1.5, cores=0.0, reading=reading(ours=0.0, total=0.0))
        assert play.dream.allowed[-1].paused, "not before they are gone for two seconds"
        play.passes(1, cores=0.0, reading=reading(ours=0.0, total=0.0))
    assert not play.dream.allowed[-1].paused
    assert play.dream.why == ""
    assert play.dream.share.paused_seconds == pytest.approx(4.7 + 2.1, abs=0.3)
    assert play.dream.gave_way == 0


def test_a_pause_that_lasts_is_a_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, gpu=True)
    with play.governed():
        play.passes(59, cores=0.0, reading=reading(total=1.0))
        assert play.dream.gave_way == 0
        play.passes(3, cores=0.0, reading=reading(total=1.0))
    assert play.dream.gave_way > 0


def test_a_gpu_that_tells_nothing_pauses_nothing_and_is_never_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(monkeypatch, gpu=True)
    with play.governed():
        play.passes(3, cores=0.1, reading=UNKNOWN)
    assert (play.dream.share.unknown, play.dream.share.pauses) == (30, 0)
    assert play.dream.share.seconds == 0


def test_what_runs_on_a_gpu_is_known_by_its_name() -> None:
    assert [on_gpu(name) for name in ("", "cpu", "NVIDIA H200")] == [False, False, True]


# ── the window ──────────────────────────────────────────────────────────────────


@given(
    st.lists(st.tuples(st.floats(0.01, 0.5), st.floats(0, 2)), min_size=1, max_size=60),
    st.sampled_from([1.0, 2.0, 16.0]),
)
def test_the_share_of_the_last_second_is_what_the_counter_grew_by_in_it(
    steps: list[tuple[float, float]], cores: float
) -> None:
    window = ShareWindow(cores, 0.0, 0.0, None)
    now, used = 0.0, 0.0
    grown: list[tuple[float, float, float]] = []
    for lasted, rate in steps:
        grown.append((now, now + lasted, rate))
        now, used = now + lasted, used + lasted * rate
        window.note(now, used)
        wanted = sum(max(0.0, min(end, now) - max(begin, now - 1)) * rate_ for begin, end, rate_ in grown)
        assert window.last_second(now) == pytest.approx(wanted / cores, abs=1e-6)
    assert window.mean(now) == pytest.approx(used / cores / now, abs=1e-6)
