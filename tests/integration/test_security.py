"""A guarded service over real connections: all methods by all callers that must not come in, and TLS."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from dreamsvc_client import Client, Credentials, CredentialsError, DreamsvcCallError

from benchmarks.proof import guarded_methods, guarded_whole
from benchmarks.proof.guarded import Guarded
from dreamsvc import bearer_tokens
from dreamsvc.clock import Clock
from dreamsvc.v1.health_pb2 import HEALTH_STATE_DISABLED
from dreamsvc.v1.memory_pb2 import Memory
from tests.integration.served import InThread, Tables, a_memory, refused, until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with Guarded(tmp_path_factory.mktemp("guarded")) as service:
        yield service


def test_nobody_comes_in_who_must_not_and_everybody_sees_why(guarded: Guarded) -> None:
    found = list(guarded_methods.cases(guarded))
    assert [case for case in found if not case.right] == []
    assert {case.case for case in found} == set(guarded_methods.CASES)
    assert len({case.method for case in found}) == len(guarded_methods.methods())


def test_nothing_but_health_answers_without_credentials_and_no_flood_or_silence_hurts_others(guarded: Guarded) -> None:
    assert [line for line in guarded_whole.lines(guarded) if not line.right] == []


class Tokens:
    """Tokens in the file of a service."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, name: str, *scopes: str, spaces: tuple[str, ...] = ("*",)) -> str:
        made = bearer_tokens.make(
            name=name, scopes=scopes or ("admin",), spaces=spaces, now_us=Clock().now_us(), expire_us=None
        )
        bearer_tokens.add(self.path, made)
        return made.text


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "memory.db.tokens")


def client(service: InThread, token: str, **more: Any) -> Client:
    return Client(f"localhost:{service.port}", attempts=1, credentials=Credentials(token=token, **more))


def test_a_limited_caller_hears_of_its_own_spaces_only(tmp_path: Path, tokens: Tokens) -> None:
    admin, limited = tokens.make("admin"), tokens.make("limited", spaces=("mine",))
    with InThread(tmp_path / "memory.db") as service, client(service, admin) as all_of_it:
        for space in ("mine", "theirs"):
            all_of_it.remember(a_memory().memories, space=space)
        assert set(all_of_it.stats("mine").spaces) == {"default", "mine", "theirs"}
        with client(service, limited) as some:
            assert list(some.stats("mine").spaces) == ["mine"]
            all_of_it.trigger(space="theirs", budget_s=30)
            all_of_it.trigger(space="default", budget_s=30)
            busy = refused(lambda: some.trigger(space="mine"))
            assert busy.reason == "DREAM_IN_PROGRESS"
            assert "theirs" not in str(busy) + str(busy.metadata)
            assert "theirs" in str(refused(lambda: all_of_it.trigger(space="mine")))


def test_what_is_the_matter_is_told_to_those_who_may_see_all_of_it(tmp_path: Path, tokens: Tokens) -> None:
    admin, limited = tokens.make("admin"), tokens.make("limited", spaces=("mine",))
    with InThread(tmp_path / "memory.db", {"dream": {"enabled": False}}) as service:
        told: list[tuple[str, str]] = []
        for token in (admin, limited):
            with client(service, token) as asking:
                parts = {part.name: part for part in asking.health().subsystems}
                assert parts["dreamer"].state == HEALTH_STATE_DISABLED
                told.append((parts["dreamer"].message, parts["dreamer"].hint))
        assert told == [("dreaming is switched off", "set dream.enabled"), ("", "")]


def test_a_stream_ends_with_the_token_that_opened_it(tmp_path: Path, tokens: Tokens) -> None:
    token = tokens.make("watcher", "dream:read", "memory:read")
    tokens.make("other")
    with InThread(tmp_path / "memory.db") as service, client(service, token) as watching:
        events = watching.watch(space="default")
        next(events)
        bearer_tokens.revoke(tokens.path, "watcher")
        error = refused(lambda: list(events))
    assert error.reason == "UNAUTHENTICATED"
    assert error.trace_id


def test_tokens_made_and_revoked_hold_in_a_running_service(tmp_path: Path, tokens: Tokens) -> None:
    with InThread(tmp_path / "memory.db") as service, client(service, "") as nobody:
        nobody.stats()
        token = tokens.make("agent")
        until(lambda: _reason(nobody) == "UNAUTHENTICATED")
        with client(service, token) as agent:
            agent.stats()
            bearer_tokens.revoke(tokens.path, "agent")
            until(lambda: _reason(agent) == "UNAUTHENTICATED")


def _reason(caller: Client) -> str:
    try:
        caller.stats()
    except DreamsvcCallError as error:
        return error.reason
    return ""


class Authority:
    """Certificates in files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.roots = directory / "ca.pem"
        self.ca.cert_pem.write_to_path(self.roots)

    def pair(self, name: str, **fields: str) -> tuple[Path, Path]:
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        made = self.ca.issue_cert("localhost", **fields)
        made.private_key_pem.write_to_path(key)
        certificate.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
        return certificate, key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def with_tls(authority: Authority, **more: Any) -> Tables:
    certificate, key = authority.pair("server")
    return {"security": {"tls": {"cert_file": str(certificate), "key_file": str(key), **more.pop("tls", {})}, **more}}


def test_a_service_beyond_loopback_starts_with_tls_and_a_token(
    tmp_path: Path, tokens: Tokens, authority: Authority
) -> None:
    token = tokens.make("agent")
    with InThread(tmp_path / "memory.db", with_tls(authority), {"server": {"host": "0.0.0.0"}}) as service:
        with client(service, token, tls_ca=authority.roots) as agent:
            agent.remember([Memory(text="over TLS")])
        with client(service, "", tls_ca=authority.roots) as nobody:
            assert _reason(nobody) == "UNAUTHENTICATED"


def test_whoever_shows_no_certificate_is_not_connected_where_one_is_asked_for(
    tmp_path: Path, authority: Authority
) -> None:
    mutual = with_tls(authority, auth="certificate", tls={"client_ca_file": str(authority.roots)})
    certificate, key = authority.pair("alice", common_name="alice")
    stranger = Authority(tmp_path / "..")
    with InThread(tmp_path / "memory.db", mutual) as service:
        with client(service, "", tls_ca=authority.roots, tls_cert=certificate, tls_key=key) as alice:
            alice.remember([Memory(text="by her certificate")])
        with client(service, "", tls_ca=authority.roots) as nobody:
            assert refused(nobody.stats).unreachable
        certificate, key = stranger.pair("mallory", common_name="alice")
        with client(service, "", tls_ca=authority.roots, tls_cert=certificate, tls_key=key) as mallory:
            assert refused(mallory.stats).unreachable


def test_a_new_certificate_is_taken_up_and_a_wrong_one_is_not(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with InThread(tmp_path / "memory.db", with_tls(authority)) as service:
        first = shown(service.port)
        assert shown(service.port) == first
        (tmp_path / "server.key").write_text("torn")
        assert shown(service.port) == first
        assert "security.tls.key_file" in caplog.text
        authority.pair("server")
        assert until(lambda: shown(service.port) != first)


def shown(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_a_token_leaves_this_machine_over_tls_only() -> None:
    with pytest.raises(CredentialsError, match="without TLS"):
        Client("192.0.2.1:50051", credentials=Credentials(token="dsvc_x"))
    for target in ("localhost:1", "127.0.0.1:1", "[::1]:1", "unix:/tmp/x", "dns:///localhost:1"):
        Client(target, credentials=Credentials(token="dsvc_x")).close()


def test_a_request_id_of_somebody_else_replays_nothing_of_theirs(tmp_path: Path, tokens: Tokens) -> None:
    mine, theirs = tokens.make("mine", spaces=("mine",)), tokens.make("theirs", spaces=("theirs",))
    with InThread(tmp_path / "memory.db") as service, client(service, mine) as me, client(service, theirs) as they:
        first = they.remember([Memory(text="theirs")], space="theirs", request_id="r1")
        own = me.remember([Memory(text="mine")], space="mine", request_id="r1")
        assert set(own.ids).isdisjoint(first.ids)
        assert me.remember([Memory(text="mine")], space="mine", request_id="r1") == own
        stolen = refused(lambda: me.remember([Memory(text="theirs")], space="theirs", request_id="r1"))
        assert stolen.reason == "NOT_FOUND"
        guessed = refused(lambda: me.remember([Memory(text="other")], space="theirs", request_id="r1"))
        assert (guessed.reason, guessed.message) == (stolen.reason, stolen.message)
