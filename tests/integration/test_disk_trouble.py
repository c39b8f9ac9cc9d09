"""A store whose disk is in trouble under a running server: it answers, refuses clearly, loses nothing, and recovers."""

import contextlib
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dreamsvc_client.errors import DreamsvcCallError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dreamsvc.v1.dream_pb2 import Dream
from dreamsvc.v1.memory_pb2 import Memory
from dreamsvc.v1.memory_service_pb2 import RememberRequest
from tests.integration.served import SLOWLY, AsProcess, refused, until

pytestmark = pytest.mark.integration

SPACE = "default"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Troubled(AsProcess):
    """A server on a disk that can be taken away, with memories that were acknowledged."""

    def __init__(self, store: Path) -> None:
        super().__init__(store, SLOWLY)
        self.store = store
        self.log = store.with_name(f"{store.name}-wal")
        self.acknowledged: list[str] = []

    def remember(self, text: str) -> None:
        self.calls.remember(SPACE, RememberRequest(memories=[Memory(key=text, text=text)]))
        self.acknowledged.append(text)

    def recalls(self, text: str) -> bool:
        return any(hit.memory.text == text for hit in self.calls.recall(SPACE, text).hits)

    def health(self, name: str = "dreamsvc.store") -> int:
        health = health_pb2_grpc.HealthStub(self.calls.channel)
        return health.Check(health_pb2.HealthCheckRequest(service=name)).status

    def refuses_to_remember(self) -> DreamsvcCallError:
        return refused(lambda: self.calls.remember(SPACE, RememberRequest(memories=[Memory(key="no", text="no")])))

    def takes_changes_again(self, text: str) -> None:
        """Health says so before anybody tried."""
        until(lambda: self.health() == SERVING)
        self.remember(text)
        assert self.recalls(text)

    def exported(self) -> set[str]:
        return {line["key"] for line in self.calls.export(SPACE)[0] if "key" in line}

    @contextlib.contextmanager
    def no_space(self) -> Iterator[None]:
        """No file may grow past its first page, as long as this lasts."""
        before = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            yield
        finally:
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, before)


@pytest.fixture
def server(equal_store: Callable[[str], Path]) -> Iterator[Troubled]:
    with Troubled(equal_store("troubled")) as server:
        server.remember("before the trouble")
        yield server


def test_on_a_full_disk_recalls_go_on_changes_are_refused_with_a_hint_and_all_recovers(server: Troubled) -> None:
    with server.no_space():
        error = server.refuses_to_remember()
        assert (error.reason, error.code.name) == ("STORE_UNAVAILABLE", "UNAVAILABLE")
        assert "free space" in error.message
        assert "reads go on" in error.hint
        assert server.recalls("before the trouble")
        assert refused(lambda: server.calls.trigger(SPACE)).reason == "STORE_UNAVAILABLE"
        until(lambda: server.health() == NOT_SERVING)
        assert server.health("") == SERVING
        assert "no" not in server.exported()
    server.takes_changes_again("after the trouble")
    assert_nothing_was_lost(server)


def test_a_service_that_is_started_on_a_full_disk_answers_and_recovers(server: Troubled) -> None:
    weights = server.calls.weights(SPACE)
    dream = server.calls.trigger(SPACE).dream
    # Long enough for checkpoints.
    until(lambda: server.calls.dream(SPACE, dream.id).report.nodes_replayed > 20)
    server.end(signal.SIGKILL)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Enough for what SQLite shares between connections, too little for its log.
    assert server.log.stat().st_size > 1 << 16
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        again = Troubled(server.store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with again:
        assert again.recalls("before the trouble")
        assert again.calls.weights(SPACE) == weights
        assert again.refuses_to_remember().reason == "STORE_UNAVAILABLE"
        resource.prlimit(again.process.pid, resource.RLIMIT_FSIZE, before)
        until(lambda: again.health() == SERVING)
        # Before anything is changed: a dream of so small a memory does not survive that.
        resumed = again.calls.trigger(SPACE)
        assert (resumed.resumed, resumed.dream.id) == (True, dream.id), again.calls.dream(SPACE, dream.id).message
        assert again.calls.ended(SPACE, dream.id).state == Dream.STATE_SUCCEEDED
        again.takes_changes_again("after the trouble")
        again.acknowledged += server.acknowledged
        assert_nothing_was_lost(again)


def test_a_dream_that_cannot_be_staged_ends_with_a_reason_and_changes_nothing(server: Troubled) -> None:
    weights = server.calls.weights(SPACE)
    dream = server.calls.trigger(SPACE).dream
    until(lambda: server.calls.dream(SPACE, dream.id).progress.fraction > 0)
    with server.no_space():
        ended = until(lambda: over(server.calls.dream(SPACE, dream.id)))
        assert ended.state != Dream.STATE_SUCCEEDED
        assert ended.message
        assert server.recalls("before the trouble")
        assert server.calls.weights(SPACE) == weights
    server.takes_changes_again("after the trouble")
    assert server.calls.weights(SPACE) == weights
    another = server.calls.trigger(SPACE, fresh=True).dream
    assert server.calls.ended(SPACE, another.id).state == Dream.STATE_SUCCEEDED
    assert_nothing_was_lost(server)


def test_a_log_that_was_removed_takes_nothing_with_it_and_is_replaced(server: Troubled) -> None:
    server.log.unlink()
    assert server.recalls("before the trouble")
    until(lambda: server.log.exists())
    server.takes_changes_again("in the new log")
    server.end(signal.SIGKILL)
    assert_the_next_start_finds_all(server)


def test_what_is_written_while_a_log_is_taken_away_again_and_again_is_kept_or_refused(server: Troubled) -> None:
    for number in range(30):
        if number % 3 == 1:
            server.log.unlink(missing_ok=True)
        with contextlib.suppress(DreamsvcCallError):
            server.remember(f"number {number}")
        assert server.recalls("before the trouble")
    server.takes_changes_again("the last one")
    server.end(signal.SIGKILL)
    assert_the_next_start_finds_all(server)


def test_while_the_database_lies_elsewhere_it_is_read_and_not_written(server: Troubled) -> None:
    elsewhere = server.store.with_name("elsewhere.db")
    server.store.rename(elsewhere)
    error = server.refuses_to_remember()
    assert error.reason == "STORE_UNAVAILABLE"
    assert "put it back" in error.message
    assert all(server.recalls("before the trouble") for _ in range(20))
    assert "before the trouble" in server.exported()
    until(lambda: server.health() == NOT_SERVING)
    elsewhere.rename(server.store)
    server.takes_changes_again("after it was put back")
    assert_nothing_was_lost(server)


def test_a_database_that_was_deleted_can_still_be_exported(server: Troubled) -> None:
    server.store.unlink()
    assert server.refuses_to_remember().reason == "STORE_UNAVAILABLE"
    assert server.recalls("before the trouble")
    assert set(server.acknowledged) <= server.exported()
    assert refused(lambda: server.calls.trigger(SPACE)).reason == "STORE_UNAVAILABLE"


def test_a_database_that_was_replaced_is_left_alone(server: Troubled) -> None:
    another = server.store.with_name("another.db")
    shutil.copy(server.store, another)
    content = another.read_bytes()
    another.replace(server.store)
    assert server.refuses_to_remember().reason == "STORE_UNAVAILABLE"
    assert server.recalls("before the trouble")
    server.end()
    assert server.store.read_bytes() == content


def test_a_place_for_snapshots_that_takes_none_ends_the_dream_and_nothing_else(server: Troubled) -> None:
    snapshots = server.store.with_name(f"{server.store.name}.snapshots")
    shutil.rmtree(snapshots, ignore_errors=True)
    snapshots.write_text("somebody put a file here")
    ended = server.calls.ended(SPACE, server.calls.trigger(SPACE).dream.id)
    assert ended.state == Dream.STATE_FAILED
    assert ended.message
    server.remember("while no dream is possible")
    snapshots.unlink()
    another = server.calls.trigger(SPACE).dream
    assert server.calls.ended(SPACE, another.id).state == Dream.STATE_SUCCEEDED
    assert_nothing_was_lost(server)


def test_lost_permissions_stop_no_recall_and_no_write_of_what_is_open(server: Troubled) -> None:
    server.store.parent.chmod(0o500)
    try:
        if os.access(server.store.parent, os.W_OK):
            pytest.skip("permissions do not bind root; a place that takes no snapshots stands for them above")
        server.remember("in a directory that may not be changed")
        assert server.recalls("before the trouble")
        ended = server.calls.ended(SPACE, server.calls.trigger(SPACE).dream.id)
        assert (ended.state, bool(ended.message)) == (Dream.STATE_FAILED, True)
    finally:
        server.store.parent.chmod(0o700)
    another = server.calls.trigger(SPACE).dream
    assert server.calls.ended(SPACE, another.id).state == Dream.STATE_SUCCEEDED
    assert_nothing_was_lost(server)


def over(dream: Dream) -> Dream | None:
    return dream if dream.state not in (Dream.STATE_RUNNING, Dream.STATE_FOLDING) else None


def assert_nothing_was_lost(server: Troubled) -> None:
    assert set(server.acknowledged) <= server.exported()
    server.end()
    assert_the_next_start_finds_all(server)


def assert_the_next_start_finds_all(server: Troubled) -> None:
    with AsProcess(server.store) as again:
        found = {line["key"] for line in again.calls.export(SPACE)[0] if "key" in line}
        assert set(server.acknowledged) <= found
