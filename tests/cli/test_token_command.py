"""`dreamsvc token`, and how every other command says who it is."""

import json
from concurrent import futures
from pathlib import Path

import grpc
import pytest
import trustme

from dreamsvc import bearer_tokens
from dreamsvc.__main__ import main
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from dreamsvc.clock import Clock
from dreamsvc.v1.memory_service_pb2 import GetStatsResponse
from tests.clients.fake_server import FakeServer


@pytest.fixture
def store(tmp_path: Path) -> list[str]:
    return ["--store", str(tmp_path / "memory.db")]


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["token", "create", *arguments, "--json"]) == EXIT_OK
    return json.loads(capsys.readouterr().out)


def test_a_token_is_shown_once_and_alone(store: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "create", "agent", *store]) == EXIT_OK
    told = capsys.readouterr()
    text = told.out.strip()
    [stored] = bearer_tokens.read(tmp_path / "memory.db.tokens").tokens
    assert bearer_tokens.known({stored.id: stored}, text, Clock().now_us()) == stored
    assert text not in told.err
    assert "From now on the service asks for a token" in told.err
    for arguments in (["list"], ["list", "--json"], ["revoke", "agent"]):
        assert main(["token", *arguments, *store]) == EXIT_OK
        told = capsys.readouterr()
        assert text not in told.out + told.err
        assert stored.sha256 not in told.out + told.err


def test_what_a_token_allows_is_said_when_it_is_made(store: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    agent = made(capsys, "agent", *store)
    assert agent["scopes"] == ["memory:read", "memory:write", "dream:read", "dream:control"]
    assert (agent["spaces"], agent["expire_time"], agent["expired"]) == (["*"], None, False)
    limited = ["--scope", "memory:read", "--scope", "dream:read", "--space", "work", "--space", "home"]
    reader = made(capsys, "reader", *limited, "--expires", "12h", *store)
    assert reader["scopes"] == ["memory:read", "dream:read"]
    assert reader["spaces"] == ["home", "work"]
    assert str(reader["expire_time"]) > str(reader["create_time"])


def test_tokens_are_listed_and_revoked(store: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "list", *store]) == EXIT_OK
    assert "no tokens" in capsys.readouterr().out
    ids = [made(capsys, name, *store)["id"] for name in ("a", "b", "b")]
    assert main(["token", "list", *store, "--json"]) == EXIT_OK
    assert [token["id"] for token in json.loads(capsys.readouterr().out)["tokens"]] == ids
    assert main(["token", "revoke", str(ids[0]), *store]) == EXIT_OK
    assert capsys.readouterr().out == f"revoked {ids[0]} (a)\n"
    assert main(["token", "revoke", "b", *store, "--json"]) == EXIT_OK
    assert [token["id"] for token in json.loads(capsys.readouterr().out)["revoked"]] == ids[1:]
    assert main(["token", "revoke", "b", *store]) == EXIT_FAILED
    assert "no token" in capsys.readouterr().err


def test_the_tokens_lie_where_the_configuration_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "dreamsvc.toml"
    settings.write_text(f'[security]\ntokens_file = "{tmp_path}/elsewhere/tokens"\n')
    made(capsys, "agent", "--config", str(settings))
    assert len(bearer_tokens.read(tmp_path / "elsewhere" / "tokens").tokens) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["agent", "--scope", "memory:all"], "there are memory:read, memory:write"),
        (["two words"], "name"),
        (["agent", "--space", "a/b"], "no name of a space"),
        (["agent", "--store", ":memory:"], "security.tokens_file"),
    ],
)
def test_what_cannot_be_is_refused_with_how_to_mend_it(
    store: list[str], arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "create", *store, *arguments]) in (EXIT_FAILED, EXIT_USAGE)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("time", ["90", "0d", "d", "1w", "-1d", ""])
def test_a_lifetime_has_a_unit(store: list[str], time: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "create", "agent", *store, f"--expires={time}"]) == EXIT_USAGE
    assert "90d" in capsys.readouterr().err


def authorization_of(fake: FakeServer, arguments: list[str]) -> str | None:
    """What a command sends along."""
    sent: list[str | None] = []

    def script(_: object, context: grpc.ServicerContext) -> GetStatsResponse:
        sent.append({str(key): str(value) for key, value in context.invocation_metadata()}.get("authorization"))
        return GetStatsResponse()

    fake.scripts["GetStats"] = script
    assert main(["stats", "--server", fake.target, *arguments]) == EXIT_OK
    return sent[0]


def test_a_token_comes_from_an_option_a_file_or_the_environment(
    fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text("dsvc_file\n")
    assert authorization_of(fake, []) is None
    assert authorization_of(fake, ["--token", "dsvc_option"]) == "Bearer dsvc_option"
    assert authorization_of(fake, ["--token-file", str(file)]) == "Bearer dsvc_file"
    monkeypatch.setenv("DREAMSVC_TOKEN_FILE", str(file))
    assert authorization_of(fake, []) == "Bearer dsvc_file"
    monkeypatch.setenv("DREAMSVC_TOKEN", "dsvc_environment")
    assert authorization_of(fake, []) == "Bearer dsvc_environment"
    assert authorization_of(fake, ["--token", "dsvc_option"]) == "Bearer dsvc_option"
    told = capsys.readouterr()
    assert "dsvc_" not in told.out + told.err


def test_the_environments_token_is_in_no_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DREAMSVC_TOKEN", "dsvc_environment")
    assert main(["status", "--help"]) == EXIT_OK
    assert "dsvc_environment" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--server", "192.0.2.1:1", "--token", "dsvc_secret"], "without TLS"),
        (["--token", "dsvc secret"], "letters that no token has"),
        (["--token-file", "/nowhere/token"], "No such file"),
        (["--tls-cert", "/nowhere/cert"], "given together"),
        (["--tls-ca", "/nowhere/ca"], "No such file"),
    ],
)
def test_credentials_that_cannot_be_used_are_told_without_showing_them(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", *arguments]) == EXIT_FAILED
    said = capsys.readouterr().err
    assert told in said
    assert "secret" not in said


def test_a_server_without_tls_is_told_so(fake: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--server", fake.target, "--tls"]) == EXIT_FAILED
    assert "does not speak TLS" in capsys.readouterr().err


def test_why_a_connection_on_tls_did_not_come_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("elsewhere.example")
    chain = b"".join(part.bytes() for part in pair.cert_chain_pems)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    secure = grpc.ssl_server_credentials([(pair.private_key_pem.bytes(), chain)])
    target = f"localhost:{server.add_secure_port('localhost:0', secure)}"
    server.start()
    try:
        roots = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(roots)
        for arguments, told in (
            ([], "with TLS is called with --tls"),
            (["--tls"], "signed by nobody that is trusted"),
            (["--tls-ca", str(roots)], "is for another name"),
        ):
            assert main(["status", "--server", target, *arguments]) == EXIT_FAILED
            assert told in capsys.readouterr().err
    finally:
        server.stop(None).wait()
