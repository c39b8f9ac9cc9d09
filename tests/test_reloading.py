"""Reading the configuration again: what is taken, what waits, and when a changed file counts as changed."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given

from dreamsvc import config, contract, reloading
from dreamsvc.clock import Clock
from dreamsvc.config import InForce
from dreamsvc.config_sources import Sources
from dreamsvc.errors import InvalidFields, Violation
from dreamsvc.reloading import Reloading, between
from dreamsvc.v1.admin_pb2 import ConfigReload
from dreamsvc.v1.config_pb2 import Config
from tests.test_config_sources import KEYS, tables, told

RESTART = {path for path, field in KEYS.items() if contract.needs_restart(field)}
Values = dict[str, object]


@given(told(), told())
def test_what_is_taken_up_is_all_that_changed_but_what_needs_a_restart(before: Values, after: Values) -> None:
    running, wanted = config.parse(tables(before)), config.parse(tables(after))
    kept = running.SerializeToString(deterministic=True), wanted.SerializeToString(deterministic=True)
    change = between(running, wanted)
    differs = {path for path in KEYS if contract.get(running, path) != contract.get(wanted, path)}
    assert set(change.changed) == differs - RESTART
    assert set(change.needs_restart) == differs & RESTART
    for path in KEYS:
        assert contract.get(change.config, path) == contract.get(running if path in RESTART else wanted, path)
    contract.check(change.config)
    assert kept == (running.SerializeToString(deterministic=True), wanted.SerializeToString(deterministic=True))


def test_what_the_process_is_built_on_needs_a_restart_and_nothing_else_says_so() -> None:
    assert {"server.host", "server.port", "store.path", "embedder.kind", "security.tls.cert_file"} <= RESTART
    tables_ = {path.rpartition(".")[0] for path in RESTART}
    # No dream, recall or feature does.
    assert tables_ <= {"server", "store", "embedder", "security", "security.tls", "security.jwt", "telemetry"}


class Changing:
    """A file, and what reads it again."""

    def __init__(self, file: Path, check: Callable[[Config], None] = lambda _: None) -> None:
        self.file = file
        self.write(0.9)
        sources = Sources(file)
        read = sources.read()
        self.in_force = InForce(read.config)
        self.reloading = Reloading(self.in_force, Clock(), sources, read, check)

    def write(self, similar: float) -> None:
        self.file.write_text(f"[recall]\nsimilar = {similar}\n")

    @property
    def similar(self) -> float:
        return self.in_force.recall.similar


@pytest.fixture
def changing(tmp_path: Path) -> Changing:
    return Changing(tmp_path / "dreamsvc.toml")


def watch(changing: Changing, monkeypatch: pytest.MonkeyPatch, *looks: Callable[[], object]) -> list[float]:
    """What is in force after each look at the file; before each look something is done to it."""
    found: list[float] = []

    async def run() -> None:
        turns: asyncio.Queue[None] = asyncio.Queue()
        waiting = asyncio.Event()

        async def sleep(_: float) -> None:
            waiting.set()
            await turns.get()

        monkeypatch.setattr(reloading.asyncio, "sleep", sleep)
        task = asyncio.ensure_future(changing.reloading.watch())
        await waiting.wait()
        for act in looks:
            act()
            waiting.clear()
            turns.put_nowait(None)
            await waiting.wait()
            found.append(changing.similar)
        task.cancel()

    asyncio.run(run())
    return found


def nothing() -> None: ...


def test_a_change_counts_once_two_looks_have_found_the_same(
    changing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watch(changing, monkeypatch, nothing, lambda: changing.write(0.6), nothing) == [0.9, 0.9, 0.6]


def test_a_file_that_is_being_written_is_left_alone(changing: Changing, monkeypatch: pytest.MonkeyPatch) -> None:
    def emptied() -> None:
        changing.file.write_text("")

    def half() -> None:
        changing.file.write_text("[recall]\nsimil")

    def whole() -> None:
        changing.write(0.7)

    assert watch(changing, monkeypatch, emptied, half, whole, nothing) == [0.9, 0.9, 0.9, 0.7]
    assert changing.reloading.last is not None
    assert changing.reloading.last.ok


def test_an_empty_file_that_stays_is_a_configuration_too(changing: Changing, monkeypatch: pytest.MonkeyPatch) -> None:
    similar = config.defaults().recall.similar
    assert watch(changing, monkeypatch, lambda: changing.file.write_text(""), nothing) == [0.9, similar]


def test_a_change_that_is_taken_back_before_it_counts_is_none(
    changing: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = watch(changing, monkeypatch, lambda: changing.write(0.6), lambda: changing.write(0.9), nothing)
    assert found == [0.9] * 3
    assert changing.reloading.last is None


def test_what_was_read_on_request_is_not_read_again(changing: Changing, monkeypatch: pytest.MonkeyPatch) -> None:
    changing.write(0.6)
    asyncio.run(changing.reloading.reload(ConfigReload.CAUSE_REQUEST))
    assert watch(changing, monkeypatch, nothing, nothing) == [0.6, 0.6]
    assert changing.reloading.last is not None
    assert changing.reloading.last.cause == ConfigReload.CAUSE_REQUEST


def test_what_was_rejected_is_tried_once_and_again_when_it_changes(
    changing: Changing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch(changing, monkeypatch, lambda: changing.write(7), nothing, nothing, nothing)
    assert caplog.text.count("recall.similar: is 7; must be at most 1") == 1
    assert watch(changing, monkeypatch, lambda: changing.write(0.6), nothing) == [0.9, 0.6]
    assert changing.reloading.notice == ""


def test_what_goes_wrong_in_any_other_way_leaves_the_watch_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = [True]

    def check(_: Config) -> None:
        if broken:
            raise RuntimeError("no idea")

    changing = Changing(tmp_path / "dreamsvc.toml", check)
    assert watch(changing, monkeypatch, lambda: changing.write(0.6), nothing) == [0.9, 0.9]
    assert "could not be read again" in caplog.text
    broken.clear()
    assert watch(changing, monkeypatch, lambda: changing.write(0.5), nothing) == [0.9, 0.5]


def test_what_it_would_be_until_the_restart_is_checked_too(tmp_path: Path) -> None:
    """E.g. a service that others can reach must not lose its credentials by a change that also moves it to loopback."""

    def closed(found: Config) -> None:
        if found.security.auth == "off" and found.server.host != "127.0.0.1":
            raise InvalidFields([Violation("security.auth", "stands open")])

    file = tmp_path / "dreamsvc.toml"
    file.write_text('[server]\nhost = "10.0.0.1"\n')
    sources = Sources(file)
    read = sources.read()
    in_force = InForce(read.config)
    again = Reloading(in_force, Clock(), sources, read, closed)
    file.write_text('[security]\nauth = "off"\n')
    with pytest.raises(InvalidFields, match="stands open"):
        asyncio.run(again.reload(ConfigReload.CAUSE_REQUEST))
    assert in_force.whole is read.config


def test_without_sources_there_is_nothing_new_to_read() -> None:
    in_force = InForce(config.parse({"recall": {"similar": 0.6}}))
    again = Reloading(in_force, Clock())
    found = asyncio.run(again.reload(ConfigReload.CAUSE_REQUEST))
    assert (found.ok, list(found.changed), in_force.recall.similar) == (True, [], 0.6)
    asyncio.run(again.watch())
