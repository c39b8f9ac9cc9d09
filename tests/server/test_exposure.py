"""What may stand open."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme

from dreamsvc import config
from dreamsvc.app import App
from dreamsvc.errors import InvalidFields
from dreamsvc.server import exposure
from tests.server.calls_in import a_token


def wrong(tables: Mapping[str, Any]) -> dict[str, str]:
    try:
        exposure.check(config.parse(tables))
    except InvalidFields as error:
        return dict(error.violations)
    return {}


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, str]:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return {"cert_file": str(tmp_path / "cert.pem"), "key_file": str(tmp_path / "key.pem")}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.9.10", "::1"])
def test_loopback_needs_nothing(host: str) -> None:
    assert wrong({"server": {"host": host}}) == {}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "no such host", "example.invalid", "a" * 200])
def test_a_service_that_others_can_reach_does_not_start_in_the_open(tmp_path: Path, host: str) -> None:
    settings = config.defaults()
    settings.store.path = str(tmp_path / "memory.db")
    settings.server.host = host
    with pytest.raises(InvalidFields) as caught:
        App(settings)
    assert [path for path, _ in caught.value.violations] == [
        "security.tls.cert_file",
        "security.tokens_file",
        "server.host",
    ]
    assert "dreamsvc token create" in caught.value.message
    assert not (tmp_path / "memory.db").exists()


def test_tls_and_a_token_open_the_door(tmp_path: Path, pair: dict[str, str]) -> None:
    beyond: dict[str, Any] = {"server": {"host": "0.0.0.0"}, "store": {"path": str(tmp_path / "memory.db")}}
    assert list(wrong({**beyond, "security": {"tls": pair}})) == ["security.tokens_file", "server.host"]
    a_token(tmp_path)
    assert list(wrong(beyond)) == ["security.tls.cert_file", "server.host"]
    assert wrong({**beyond, "security": {"tls": pair}}) == {}
    assert list(wrong({**beyond, "security": {"tls": pair, "auth": "off"}})) == ["security.auth", "server.host"]


def test_metrics_beyond_loopback_are_somebodys_decision(tmp_path: Path) -> None:
    telemetry = {"metrics_port": 9464, "metrics_host": "0.0.0.0"}
    assert list(wrong({"telemetry": telemetry})) == ["telemetry.metrics_host"]
    assert wrong({"telemetry": {**telemetry, "metrics_open": True}}) == {}
    assert wrong({"telemetry": {**telemetry, "metrics_port": 0}}) == {}
    assert wrong({"telemetry": {**telemetry, "metrics_host": "::1"}}) == {}


def test_a_certificate_can_stand_for_a_token(tmp_path: Path, pair: dict[str, str]) -> None:
    beyond = {"server": {"host": "0.0.0.0"}, "store": {"path": str(tmp_path / "memory.db")}}
    security = {"auth": "certificate", "tls": {**pair, "client_ca_file": str(tmp_path / "ca.pem")}}
    assert wrong({**beyond, "security": security}) == {}
    assert "security.tls.client_ca_file" in wrong({**beyond, "security": {**security, "tls": pair}})


def test_files_of_tls_are_tried_out(tmp_path: Path, pair: dict[str, str]) -> None:
    def told(**changes: str) -> dict[str, str]:
        return wrong({"security": {"tls": {**pair, **changes}}})

    assert told() == {}
    assert "cannot be read: No such file" in told(cert_file="/nowhere")["security.tls.cert_file"]
    other = trustme.CA().issue_cert("localhost")
    other.private_key_pem.write_to_path(tmp_path / "other.pem")
    assert "no private key of the certificate" in told(key_file=str(tmp_path / "other.pem"))["security.tls.key_file"]
    (tmp_path / "locked.pem").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nx\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    assert "is encrypted" in told(key_file=str(tmp_path / "locked.pem"))["security.tls.key_file"]
    (tmp_path / "text.pem").write_text("no PEM")
    assert "has no certificate" in told(client_ca_file=str(tmp_path / "text.pem"))["security.tls.client_ca_file"]
    assert told(key_file="") == {"security.tls.key_file": "is required with cert_file"}
    assert list(told(cert_file="")) == ["security.tls.key_file"]


def test_an_issuer_is_configured_whole_or_not_at_all() -> None:
    def told(**jwt: Any) -> dict[str, str]:
        return wrong({"security": {"jwt": jwt}})

    assert list(told(issuer="https://id.example")) == ["security.jwt.audience", "security.jwt.jwks"]
    assert list(told(audience="a")) == ["security.jwt.audience"]
    whole = {"issuer": "https://id.example", "audience": "dreamsvc", "jwks": "https://id.example/keys"}
    assert told(**whole) == {}
    assert "must be https" in told(**{**whole, "jwks": "http://id.example/keys"})["security.jwt.jwks"]
    assert told(**{**whole, "jwks": "http://127.0.0.1:8080/keys"}) == {}
    for algorithm in ("none", "HS256", "rs256", ""):
        assert list(told(**whole, algorithms=["RS256", algorithm])) == ["security.jwt.algorithms"], algorithm
