"""Who is let in."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dreamsvc import bearer_tokens, config
from dreamsvc.errors import InvalidFields, NotFound, PermissionDenied, RateLimited, Unauthenticated
from dreamsvc.server.access import Access
from dreamsvc.server.callers import ANYBODY, method_of
from dreamsvc.v1 import admin_service_pb2, dream_service_pb2, memory_service_pb2
from dreamsvc.v1.dream_service_pb2 import AbortRequest
from dreamsvc.v1.memory_service_pb2 import ImportHeader, ImportRequest, RecallRequest
from tests.server.calls_in import HOUR_US, ByHand, a_token, access_with, caller_of, incoming, settings

DREAMS = dream_service_pb2.DESCRIPTOR.services_by_name["DreamService"].methods_by_name
MEMORIES = memory_service_pb2.DESCRIPTOR.services_by_name["MemoryService"].methods_by_name

ADMIN = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"].methods_by_name


def look(access: Access) -> None:
    asyncio.run(access.look())


def test_on_loopback_nobody_says_who_they_are_until_there_is_a_token(tmp_path: Path) -> None:
    access = access_with(settings(tmp_path))
    assert caller_of(access, incoming()) is ANYBODY
    token = a_token(tmp_path)
    look(access)
    with pytest.raises(Unauthenticated, match="no credentials"):
        caller_of(access, incoming())
    assert caller_of(access, incoming(token)).name == "agent"


def test_tokens_that_vanish_open_nothing_while_the_service_runs(tmp_path: Path) -> None:
    a_token(tmp_path)
    access = access_with(settings(tmp_path))
    (tmp_path / "memory.db.tokens").unlink()
    look(access)
    with pytest.raises(Unauthenticated):
        caller_of(access, incoming())


def test_a_file_of_tokens_that_gets_damaged_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    token = a_token(tmp_path)
    access = access_with(settings(tmp_path))
    (tmp_path / "memory.db.tokens").write_text("{")
    look(access)
    assert caller_of(access, incoming(token)).name == "agent"
    assert "memory.db.tokens" in caplog.text


def test_a_damaged_file_of_tokens_keeps_a_service_from_starting(tmp_path: Path) -> None:
    (tmp_path / "memory.db.tokens").write_text("{")
    with pytest.raises(InvalidFields, match=r"memory\.db\.tokens"):
        access_with(settings(tmp_path))


def test_credentials_can_be_asked_for_or_not_whatever_there_is(tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated):
        caller_of(access_with(settings(tmp_path, {"auth": "required"})), incoming())
    a_token(tmp_path)
    assert caller_of(access_with(settings(tmp_path, {"auth": "off"})), incoming()) is ANYBODY


def test_a_change_of_the_configuration_holds_at_once(tmp_path: Path) -> None:
    in_force = settings(tmp_path)
    access = access_with(in_force)
    in_force.exchange(settings(tmp_path, {"auth": "required"}).whole)
    with pytest.raises(Unauthenticated):
        caller_of(access, incoming())
    in_force.exchange(settings(tmp_path, {"auth": "off"}).whole)
    assert caller_of(access, incoming()) is ANYBODY


@pytest.mark.parametrize(
    "authorization", ["Basic abc", "Bearer", "Bearer ", "bearer x y", "dsvc_", "Bearer \N{SLEEPING FACE}"]
)
def test_what_is_no_token_is_nobody(tmp_path: Path, authorization: str) -> None:
    a_token(tmp_path)
    with pytest.raises(Unauthenticated):
        caller_of(access_with(settings(tmp_path)), incoming(authorization=authorization))


def test_unknown_revoked_and_expired_are_told_in_the_same_words(tmp_path: Path) -> None:
    clock = ByHand()
    revoked = a_token(tmp_path, name="revoked")
    expired = a_token(tmp_path, name="expired", expire_us=clock.now_us() + HOUR_US)
    access = access_with(settings(tmp_path), clock)
    assert {caller_of(access, incoming(token)).name for token in (revoked, expired)} == {"revoked", "expired"}
    bearer_tokens.revoke(tmp_path / "memory.db.tokens", "revoked")
    clock.passed_s += 3600
    look(access)
    texts: set[str] = set()
    for token in (revoked, expired, revoked[:-1] + "x", "dsvc_000000000000_" + "x" * 43):
        with pytest.raises(Unauthenticated) as caught:
            caller_of(access, incoming(token))
        texts.add(caught.value.message)
    assert len(texts) == 1


def test_tokens_are_looked_at_again_after_a_moment_in_which_nobody_could(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = a_token(tmp_path)
    access = access_with(settings(tmp_path))
    looked = 0
    look_once = Access.look
    seen = asyncio.Event()

    async def stumbling(self: Access) -> None:
        nonlocal looked
        looked += 1
        if looked < 3:
            raise PermissionError(13, "Permission denied")
        await look_once(self)
        seen.set()

    async def watched() -> None:
        watching = asyncio.create_task(access.watch())
        bearer_tokens.revoke(tmp_path / "memory.db.tokens", "agent")
        async with asyncio.timeout(10):
            await seen.wait()
        watching.cancel()

    monkeypatch.setattr("dreamsvc.server.access.LOOK_S", 0.01)
    monkeypatch.setattr(Access, "look", stumbling)
    asyncio.run(watched())
    assert caplog.text.count("Permission denied") == 1
    with pytest.raises(Unauthenticated):
        caller_of(access, incoming(token))


def test_a_file_that_nobody_can_see_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = access_with(settings(tmp_path))
    assert caller_of(access, incoming()) is ANYBODY

    def unseen(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", unseen)
    look(access)
    with pytest.raises(Unauthenticated):
        caller_of(access, incoming())


def test_a_long_call_ends_with_its_token(tmp_path: Path) -> None:
    clock = ByHand()
    token = a_token(tmp_path, expire_us=clock.now_us() + HOUR_US)
    other = a_token(tmp_path, name="other")
    access = access_with(settings(tmp_path), clock)
    expiring, revoked = caller_of(access, incoming(token)), caller_of(access, incoming(other))
    for caller in (expiring, revoked):
        access.recheck(caller)
    bearer_tokens.revoke(tmp_path / "memory.db.tokens", "other")
    look(access)
    with pytest.raises(Unauthenticated):
        access.recheck(revoked)
    access.recheck(expiring)
    clock.passed_s += 3600
    with pytest.raises(Unauthenticated):
        access.recheck(expiring)


def test_anybodys_long_call_ends_once_credentials_are_asked_for(tmp_path: Path) -> None:
    access = access_with(settings(tmp_path))
    access.recheck(ANYBODY)
    a_token(tmp_path)
    look(access)
    with pytest.raises(Unauthenticated):
        access.recheck(ANYBODY)


def test_who_fails_too_often_waits_and_good_tokens_from_there_do_not(tmp_path: Path) -> None:
    clock = ByHand()
    token = a_token(tmp_path)
    limits = {"failures_burst": 3, "failures_per_second": 0.5}
    access = access_with(settings(tmp_path, {"rate_limits": limits}), clock)
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            caller_of(access, incoming("nonsense"))
    with pytest.raises(RateLimited) as caught:
        caller_of(access, incoming("nonsense"))
    assert caught.value.retry_after_s == 2
    assert caller_of(access, incoming(token)).name == "agent"
    with pytest.raises(Unauthenticated):
        caller_of(access, incoming("nonsense", peer="ipv4:192.0.2.8"))
    clock.passed_s += 2
    with pytest.raises(Unauthenticated):
        caller_of(access, incoming("nonsense"))


def test_a_certificate_alone_is_enough_only_where_the_configuration_says_so(tmp_path: Path) -> None:
    # The handshake has verified it; the configuration is checked when a service starts.
    in_force = settings(tmp_path, {"auth": "required"})
    access = access_with(in_force)
    with pytest.raises(Unauthenticated):
        caller_of(access, incoming(certificate="alice"))
    changed = settings(tmp_path, {"auth": "certificate"}).whole
    in_force.exchange(changed)
    alice = caller_of(access, incoming(certificate="alice"))
    assert (alice.name, alice.spaces) == ("alice", None)
    with pytest.raises(Unauthenticated):
        caller_of(access, incoming())


def test_a_scope_allows_its_methods_and_no_others(tmp_path: Path) -> None:
    access = access_with(settings(tmp_path, {"auth": "required"}))
    reader = caller_of_new(access, tmp_path, "memory:read")
    reader.require(method_of(MEMORIES["Recall"]))
    with pytest.raises(PermissionDenied, match="Remember needs the scope memory:write; agent has memory:read"):
        reader.require(method_of(MEMORIES["Remember"]))
    with pytest.raises(PermissionDenied, match="dream:read"):
        reader.require(method_of(DREAMS["DiffDream"]))
    admin = caller_of_new(access, tmp_path, "admin")
    for method in (*MEMORIES.values(), *DREAMS.values()):
        admin.require(method_of(method))


def caller_of_new(access: Access, tmp_path: Path, *scopes: str, **fields: Any) -> Any:
    token = a_token(tmp_path, *scopes, **fields)
    look(access)
    return caller_of(access, incoming(token))


def test_a_space_of_others_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    access = access_with(settings(tmp_path, {"auth": "required"}))
    limited = caller_of_new(access, tmp_path, "admin", spaces=("mine", "ours"))
    for space in ("mine", "ours", None):
        limited.require_space(space)
    for space in ("default", "Mine", "mine2", "*", ""):
        with pytest.raises(NotFound, match="there is no space"):
            limited.require_space(space)
    caller_of_new(access, tmp_path, "admin").require_space("any")


def test_what_concerns_all_spaces_is_nothing_for_an_admin_of_some(tmp_path: Path) -> None:
    access = access_with(settings(tmp_path, {"auth": "required"}))
    reload = method_of(ADMIN["ReloadConfig"])
    caller_of_new(access, tmp_path, "admin").require(reload)
    with pytest.raises(PermissionDenied, match="concerns all spaces"):
        caller_of_new(access, tmp_path, "admin", spaces=("mine",)).require(reload)


def test_the_space_of_a_request_is_found_wherever_it_stands() -> None:
    recall, imports = method_of(MEMORIES["Recall"]).space, method_of(MEMORIES["Import"]).space
    assert recall is not None
    assert imports is not None
    assert (recall(RecallRequest(space="a")), recall(RecallRequest())) == ("a", "default")
    assert imports(ImportRequest(header=ImportHeader(space="a"))) == "a"
    assert imports(ImportRequest(header=ImportHeader())) == "default"
    assert imports(ImportRequest(chunk=b"x")) is None
    abort = method_of(DREAMS["Abort"]).space
    assert abort is not None
    assert abort(AbortRequest()) == "default"


def test_every_method_but_one_that_keeps_nothing_is_about_a_space() -> None:
    methods = [method_of(method) for method in (*MEMORIES.values(), *DREAMS.values())]
    assert [method.name for method in methods if method.space is None] == ["Simulate"]


def test_the_defaults_have_room_for_a_busy_agent() -> None:
    limits = config.defaults().security.rate_limits
    assert limits.reads_per_second >= 50 <= limits.writes_per_second
