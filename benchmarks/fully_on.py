"""A service with everything switched on that a service can have, and who may call it."""

import json
from pathlib import Path
from typing import NamedTuple

import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from dreamsvc_client import Credentials
from jwt.algorithms import RSAAlgorithm

from benchmarks.serving import BY_REQUEST_ONLY
from dreamsvc import bearer_tokens, clock
from dreamsvc.bearer_tokens import ALL_SPACES, SCOPES

# Nobody listens there: a collector that is away must cost nothing either.
COLLECTOR = "http://127.0.0.1:9"
CONFIG = f"""{BY_REQUEST_ONLY}
[telemetry]
metrics_port = {{metrics_port}}
log_format = "json"
traces_endpoint = "{COLLECTOR}"

[security]
auth = "required"
tokens_file = "{{directory}}/tokens"

[security.tls]
cert_file = "{{directory}}/cert.pem"
key_file = "{{directory}}/key.pem"
client_ca_file = "{{directory}}/ca.pem"

[security.jwt]
issuer = "https://id.example"
audience = "dreamsvc"
jwks = "{{directory}}/jwks.json"
"""


class FullyOn(NamedTuple):
    config: str
    credentials: Credentials


def prepare(directory: Path, metrics_port: int) -> FullyOn:
    """TLS of both sides, tokens and an issuer's keys, as files in a directory."""
    authority = trustme.CA()
    for name, certificate in (
        ("", authority.issue_cert("localhost", "127.0.0.1")),
        ("client-", authority.issue_cert(common_name="somebody")),
    ):
        certificate.cert_chain_pems[0].write_to_path(directory / f"{name}cert.pem")
        certificate.private_key_pem.write_to_path(directory / f"{name}key.pem")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    key = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key(), as_dict=True)
    (directory / "jwks.json").write_text(json.dumps({"keys": [{**key, "kid": "one"}]}), encoding="utf-8")
    token = bearer_tokens.make(
        name="admin", scopes=SCOPES, spaces=(ALL_SPACES,), now_us=clock.Clock().now_us(), expire_us=None
    )
    bearer_tokens.add(directory / "tokens", token)
    return FullyOn(
        CONFIG.format(directory=directory, metrics_port=metrics_port),
        Credentials(
            token=token.text,
            tls_ca=directory / "ca.pem",
            tls_cert=directory / "client-cert.pem",
            tls_key=directory / "client-key.pem",
        ),
    )
