"""Fuzzing draws the same of the same seed, finds what is broken, and goes on after a case that ends its process."""

import json
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import fuzz
from benchmarks.proof import fuzz_parts, fuzz_run, fuzz_sessions, fuzz_watch
from benchmarks.proof.fuzz_changes import change
from benchmarks.proof.fuzz_draws import Draws, nested
from benchmarks.proof.fuzz_sessions import Found, Session
from benchmarks.proof.fuzz_watch import HUNG, Broken, Failure, Watch
from dreamsvc.memory import operations, rows
from dreamsvc.memory.imports import LineReader
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where failures go meanwhile."""
    monkeypatch.setattr(fuzz_watch, "ROOT", tmp_path)
    for module in (fuzz, fuzz_sessions, fuzz_watch):
        monkeypatch.setattr(module, "KEPT", tmp_path / "build")
    return tmp_path / "build"


def batch(name: str, cases: int, seed: int = 0) -> Watch:
    target = fuzz_run.target_of(name)
    try:
        watch = Watch(name, seed)
        target.batch(watch, cases)
        return watch
    finally:
        target.close()


def test_equal_seeds_draw_the_same() -> None:
    def drawn(seed: int) -> list[bytes]:
        draws = Draws(seed)
        messages = [draws.message(RememberRequest) for _ in range(20)]
        for message in messages:
            change(draws, message, 2)
        bodies = [message.SerializeToString(deterministic=True) for message in messages]
        return [*bodies, *(draws.damaged(body, bodies[0]) for body in bodies)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


def test_every_field_of_a_message_is_drawn_sooner_or_later() -> None:
    draws = Draws(1)
    reached: set[str] = set()
    for _ in range(300):
        reached |= {field.name for field, _ in draws.message(Memory).ListFields()}
    assert reached == set(Memory.DESCRIPTOR.fields_by_name)


def test_a_nested_message_is_as_deep_as_it_was_asked_for() -> None:
    assert nested(1, 2) == b"\n\x02\n\x00"
    with pytest.raises(Exception, match="parsing"):
        RememberRequest.FromString(nested(2, 3000))


@pytest.mark.parametrize(
    "name", ["lines", "toml", "snapshots", "endpoint", "parts", "imports", "blobs", "night", "calls"]
)
def test_a_small_batch_of_every_target_that_needs_no_process_finds_nothing(name: str) -> None:
    watch = batch(name, 12, seed=11)
    assert watch.failures == []
    assert watch.cases >= 12
    assert watch.ends.total() >= 9


# ── that it can find something ──────────────────────────────────────────────────


def test_nonsense_that_is_let_through_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_parts, "require_sound", lambda part: None)
    (failure, *_) = batch("parts", 100).failures
    assert failure.what == "fold"


def test_a_reader_that_takes_the_ends_of_chunks_for_those_of_lines_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def feed(self: Any, chunk: bytes) -> Iterator[RememberRequest]:
        for line in chunk.split(b"\n"):
            self._take(line)
        yield from self._full_parts(operations.PART_ROWS)

    monkeypatch.setattr(LineReader, "feed", feed)
    failures = batch("lines", 40).failures
    assert any("where a file is cut" in failure.error for failure in failures)
    assert all(Path(fuzz_watch.ROOT, failure.data).exists() for failure in failures if failure.data)


def test_damage_that_nobody_checks_for_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(body: bytes, crc: int, node: int) -> NDArray[np.float16]:
        return np.frombuffer(body[: len(body) // 2 * 2], "<f2")

    monkeypatch.setattr(rows, "unpack_vector", unpack)
    assert any("answered by what is damaged" in failure.error for failure in batch("blobs", 150).failures)


def test_a_case_that_fails_is_told_with_what_replays_it() -> None:
    watch = Watch("toml", 7)
    with watch.case("load", b"bytes"):
        raise Broken("something")
    with watch.case("load"):
        pass
    assert watch.cases == 2
    (failure,) = watch.failures
    assert (failure.case, failure.what) == (0, "load")
    assert failure.error.endswith("Broken: something\n")
    assert failure.replay == "python -m benchmarks.proof.fuzz_run toml --seed 7"
    assert (fuzz_watch.ROOT / failure.data).read_bytes() == b"bytes"


# ── processes ───────────────────────────────────────────────────────────────────

PLAYED = """#!{python}
import json, os, signal, sys
arguments = sys.argv[3:]
note, seed = arguments[arguments.index("--note") + 1], int(arguments[arguments.index("--seed") + 1])
batches = int(arguments[arguments.index("--batches") + 1])
targets = arguments[: arguments.index("--note")]
for target in targets:
    for one in range(seed, seed + batches):
        open(note, "w").write(json.dumps([target, one, 5, "what it did"]))
        {deed}
        told = dict(target=target, seed=one, cases=10, seconds=0.5, ends=dict(read=10), resident_mb=50.0, failures=[])
        print(json.dumps(told), flush=True)
"""


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """A process in place of the one that fuzzes, which does something at each batch."""

    def play(deed: str) -> None:
        script = tmp_path / "played"
        script.write_text(PLAYED.format(python=sys.executable, deed=deed))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

        class Sys:
            executable = str(script)

        monkeypatch.setattr(fuzz_sessions, "sys", Sys)

    return play


def run(session: Session) -> tuple[dict[str, Found], int]:
    found: dict[str, Found] = {}
    heard: list[int] = []
    fuzz_sessions.run(session, found, heard.append)
    return found, sum(heard)


def test_a_session_adds_up_what_its_batches_tell(played: Callable[[str], None]) -> None:
    played("pass")
    found, heard = run(Session(["toml"], 0, 3, None))
    assert heard == found["toml"].cases == 30
    assert found["toml"].failures == []


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("one == 1 and os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        (f"one == 1 and os._exit({HUNG})", "took more than"),
        ("one == 1 and 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_case_that_ends_its_process_is_found_and_the_others_go_on(
    played: Callable[[str], None], deed: str, said: str
) -> None:
    played(deed)
    found, heard = run(Session(["toml"], 0, 4, None))
    (failure,) = found["toml"].failures
    assert (failure.seed, failure.case, failure.what) == (1, 5, "what it did")
    assert said in failure.error
    assert heard == 30


def test_of_several_targets_those_after_one_that_died_are_fuzzed_too(played: Callable[[str], None]) -> None:
    played("target == 'lines' and os.abort()")
    found, _ = run(Session(["toml", "lines", "parts"], 0, 1, 0.1))
    assert {name: len(of.failures) for name, of in found.items()} == {"toml": 0, "lines": 1, "parts": 0}


def test_a_target_that_only_dies_is_given_up(played: Callable[[str], None]) -> None:
    played("os.abort()")
    found, heard = run(Session(["toml"], 0, 1000, None))
    assert (len(found["toml"].failures), heard) == (fuzz_sessions.MOST_DEATHS, 0)


def test_a_long_run_has_as_many_cases_of_each_target_as_its_share() -> None:
    sessions = fuzz._many(1_000_000)
    cases = {
        name: sum(session.batches for session in sessions if session.targets == [name]) * fuzz_run.size_of(name)
        for name in fuzz.SHARES
    }
    assert sum(cases.values()) >= 1_000_000
    assert set(fuzz.SHARES) == set(fuzz_run.TARGETS)
    assert all(cases[name] >= share * 1_000_000 for name, share in fuzz.SHARES.items())


def test_what_was_found_is_kept_with_what_replays_it(kept: Path) -> None:
    fuzz._keep([Failure("toml", 3, 4, "load", "Traceback\nBroken: x")])
    (line,) = (kept / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["replay"] == "python -m benchmarks.proof.fuzz_run toml --seed 3"
    (shown,) = fuzz._shown([Failure("toml", 3, 4, "load", "Traceback\nBroken: x\n")])
    assert shown["error"] == "Broken: x"
