"""Tokens of an identity provider: what counts, and what must never count."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from dreamsvc.errors import InvalidFields, RateLimited, Unauthenticated
from dreamsvc.server.issuer_tokens import KNOWN_S, LOOK_AGAIN_S, IssuerTokens
from dreamsvc.v1.config_pb2 import JwtConfig
from tests.server.calls_in import ByHand, a_token, access_with, caller_of, incoming
from tests.server.calls_in import settings as configured

ISSUER, AUDIENCE = "https://id.example", "dreamsvc"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHARED = "a secret that is long enough for HS256, by far"


def jwks(**more: Any) -> dict[str, Any]:
    keys = {
        "rsa": {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "alg": "RS256"},
        "ec": ECAlgorithm.to_jwk(EC.public_key(), as_dict=True),
        # An issuer must not publish one; where it does, it counts for nothing.
        "shared": {"kty": "oct", "k": "YSBzZWNyZXQgdGhhdCBpcyBsb25nIGVub3VnaCBmb3IgSFMyNTYsIGJ5IGZhcg", "alg": "HS256"},
        **more,
    }
    return {"keys": [{**key, "kid": kid, "use": "sig"} for kid, key in keys.items()]}


def signed(clock: ByHand, key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **claims: Any) -> str:
    now_s = clock.now_us() // 1_000_000
    whole = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "agent 7",
        "exp": now_s + 600,
        "scope": "memory:read openid dream:read",
        "dreamsvc_spaces": ["work"],
        **claims,
    }
    told = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(told, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})


@pytest.fixture
def clock() -> ByHand:
    return ByHand()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(jwks()))
    return path


def issuer(clock: ByHand, keys: Path | str, **changes: Any) -> IssuerTokens:
    whole: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jwks": str(keys),
        "scopes_claim": "scope",
        "spaces_claim": "dreamsvc_spaces",
        "leeway_seconds": 30,
        "refresh_seconds": 300,
        **changes,
    }
    return IssuerTokens(JwtConfig(**whole), clock)


def test_a_token_says_who_calls_and_what_it_allows(clock: ByHand, file: Path) -> None:
    found = asyncio.run(issuer(clock, file).verified(signed(clock)))
    assert found is not None
    assert (found.name, found.key) == ("agent_7", "issuer:agent_7")
    assert found.scopes == {"memory:read", "dream:read"}
    assert found.spaces == {"work"}
    assert asyncio.run(issuer(clock, file).verified(signed(clock, EC, "ES256", "ec"))) is not None


def test_scopes_and_spaces_stand_in_the_claims_that_are_configured(clock: ByHand, file: Path) -> None:
    tokens = issuer(clock, file, scopes_claim="https://id.example/roles", spaces_claim="tenants")
    claims: dict[str, Any] = {"https://id.example/roles": ["admin", 7], "tenants": "a b"}
    found = asyncio.run(tokens.verified(signed(clock, **claims)))
    assert found is not None
    assert "memory:write" in found.scopes, "admin stands for all"
    assert found.spaces == {"a", "b"}
    everywhere = asyncio.run(issuer(clock, file).verified(signed(clock, dreamsvc_spaces="*")))
    assert everywhere is not None
    assert everywhere.spaces is None
    nowhere = asyncio.run(issuer(clock, file).verified(signed(clock, dreamsvc_spaces=None, scope=None)))
    assert nowhere is not None
    assert (nowhere.spaces, nowhere.scopes) == (frozenset(), frozenset())


def forged(clock: ByHand) -> dict[str, str]:
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header, claims, signature = signed(clock).split(".")
    other = signed(clock, sub="somebody else").split(".")[1]
    unsigned = jwt.encode(jwt.decode(signed(clock), options={"verify_signature": False}), "", algorithm="none")
    # The public key, which everybody has, as the secret of HS256; PyJWT itself makes no such token.
    by_hand = _hs256({"alg": "HS256", "kid": "rsa"}, claims, public)
    return {
        "another issuer": signed(clock, iss="https://evil.example"),
        "another audience": signed(clock, aud="other"),
        "no audience": signed(clock, aud=None),
        "no issuer": signed(clock, iss=None),
        "no subject": signed(clock, sub=None),
        "no end": signed(clock, exp=None),
        "expired": signed(clock, exp=clock.now_us() // 1_000_000 - 31),
        "not yet": signed(clock, nbf=clock.now_us() // 1_000_000 + 60),
        "a stranger's key": signed(clock, STRANGER),
        "an unknown key": signed(clock, kid="other"),
        "no name of a key, of two": signed(clock, kid=None),
        "the key of another algorithm": signed(clock, RSA, "RS256", "ec"),
        "a shared secret": signed(clock, SHARED, "HS256", "shared"),
        "the public key as a secret": by_hand,
        "no signature": unsigned,
        "an empty signature": f"{header}.{claims}.",
        "other claims": f"{header}.{other}.{signature}",
        "a torn one": signed(clock)[:-9],
        "nonsense": "nonsense.of.somebody",
        "nothing": "",
    }


def _hs256(header: dict[str, str], claims: str, secret: bytes) -> str:
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    mac = hmac.new(secret, f"{head}.{claims}".encode(), hashlib.sha256).digest()
    return f"{head}.{claims}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


@pytest.mark.parametrize("what", forged(ByHand()))
def test_what_is_forged_or_over_is_nobody_and_no_log_has_it(
    clock: ByHand, file: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = forged(clock)[what]
    assert asyncio.run(issuer(clock, file).verified(token)) is None
    assert "refused" in caplog.text
    assert all(part not in caplog.text for part in token.split(".") if len(part) > 3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(place=st.integers(0, 10_000), bit=st.integers(0, 5))
def test_no_other_text_than_the_one_that_was_signed_counts(clock: ByHand, file: Path, place: int, bit: int) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = signed(clock)
    at = place % len(token)
    if token[at] == ".":
        return
    changed = token[:at] + letters[letters.index(token[at]) ^ (1 << bit)] + token[at + 1 :]
    found = asyncio.run(issuer(clock, file).verified(changed))
    # The last letter of a part of base64 has bits that say nothing.
    assert found is None or token[at + 1 : at + 2] in ("", ".")


def test_a_token_holds_to_its_end_also_where_it_is_known_already(clock: ByHand, file: Path) -> None:
    tokens = issuer(clock, file, leeway_seconds=0)
    token = signed(clock, exp=clock.now_us() // 1_000_000 + 20)
    assert tokens.known(token) is None
    found = asyncio.run(tokens.verified(token))
    assert tokens.known(token) == found
    clock.passed_s += 21
    assert tokens.known(token) is None


def test_what_was_verified_is_looked_at_again_after_a_while(clock: ByHand, file: Path) -> None:
    tokens = issuer(clock, file)
    token = signed(clock)
    asyncio.run(tokens.verified(token))
    clock.passed_s += KNOWN_S
    assert tokens.known(token) is None


def test_keys_are_read_again_and_what_a_withdrawn_one_signed_counts_no_longer(clock: ByHand, file: Path) -> None:
    tokens = issuer(clock, file)
    token = signed(clock)
    asyncio.run(tokens.verified(token))
    file.write_text(json.dumps({"keys": [key for key in jwks()["keys"] if key["kid"] != "rsa"]}))
    clock.passed_s += 1
    asyncio.run(tokens.refresh())
    assert tokens.known(token) is not None, "not before it is time"
    clock.passed_s += 300
    asyncio.run(tokens.refresh())
    assert tokens.known(token) is None
    assert asyncio.run(tokens.verified(token)) is None


def test_a_file_of_keys_that_gets_damaged_changes_nothing(
    clock: ByHand, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = issuer(clock, file)
    asyncio.run(tokens.refresh())
    file.write_text("{")
    clock.passed_s += 300
    asyncio.run(tokens.refresh())
    assert "security.jwt.jwks" in caplog.text
    assert asyncio.run(tokens.verified(signed(clock))) is not None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"keys": 3}', '{"keys": []}', '{"keys": [{"kty": "x"}]}'])
def test_what_is_no_set_of_keys_is_told_at_the_start(clock: ByHand, tmp_path: Path, content: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(content)
    with pytest.raises(InvalidFields, match=r"security\.jwt\.jwks"):
        issuer(clock, path)


class Issuer:
    """Gives keys over HTTP on loopback, and counts how often."""

    def __init__(self) -> None:
        self.content = jwks()
        self.asked = 0
        outer = self

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(200 if self.path == "/keys" else 503)
                self.end_headers()
                self.wfile.write(json.dumps(outer.content).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Answering)
        self.address = f"http://127.0.0.1:{self._server.server_port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def over_http() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.close()


def test_keys_are_fetched_and_an_unknown_one_is_looked_for_now_and_then(clock: ByHand, over_http: Issuer) -> None:
    tokens = issuer(clock, over_http.address)
    assert over_http.asked == 0, "a start waits for nobody"
    assert asyncio.run(tokens.verified(signed(clock))) is not None
    assert over_http.asked == 1
    for _ in range(5):
        assert asyncio.run(tokens.verified(signed(clock, kid="new"))) is None
    assert over_http.asked == 1, "tokens of nobody have keys fetched without end"
    fresh = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    over_http.content = jwks(new=RSAAlgorithm.to_jwk(fresh.public_key(), as_dict=True))
    clock.passed_s += LOOK_AGAIN_S
    assert asyncio.run(tokens.verified(signed(clock, fresh, kid="new"))) is not None
    assert over_http.asked == 2


def test_an_issuer_that_does_not_answer_lets_nobody_in_and_nothing_break(
    clock: ByHand, over_http: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = issuer(clock, over_http.address.replace("/keys", "/away"))
    assert asyncio.run(tokens.verified(signed(clock))) is None
    assert "cannot be fetched" in caplog.text


def test_both_kinds_of_tokens_are_taken_side_by_side(tmp_path: Path, clock: ByHand, file: Path) -> None:
    own = a_token(tmp_path)
    of_issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(file)}
    access = access_with(configured(tmp_path, {"jwt": of_issuer}), clock)
    assert caller_of(access, incoming(own)).name == "agent"
    by_issuer = caller_of(access, incoming(signed(clock)))
    assert by_issuer.name == "agent_7"
    access.recheck(by_issuer)
    clock.passed_s += 631
    with pytest.raises(Unauthenticated):
        access.recheck(by_issuer)


def test_a_good_token_never_waits_for_those_who_guess_at_the_same_address(
    tmp_path: Path, clock: ByHand, file: Path
) -> None:
    security = {
        "jwt": {"issuer": ISSUER, "audience": AUDIENCE, "jwks": str(file)},
        "rate_limits": {"failures_burst": 2, "failures_per_second": 0.1},
    }
    access = access_with(configured(tmp_path, security), clock)
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            caller_of(access, incoming(signed(clock, STRANGER)))
    with pytest.raises(RateLimited):
        caller_of(access, incoming(signed(clock, STRANGER)))
    assert caller_of(access, incoming(signed(clock))).name == "agent_7"


def test_the_keys_of_the_issuer_outlive_a_change_of_something_else(
    tmp_path: Path, clock: ByHand, over_http: Issuer
) -> None:
    of_issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": over_http.address}
    in_force = configured(tmp_path, {"jwt": of_issuer})
    access = access_with(in_force, clock)
    assert caller_of(access, incoming(signed(clock))).name == "agent_7"
    asked = over_http.asked
    in_force.exchange(configured(tmp_path, {"jwt": of_issuer, "rate_limits": {"failures_burst": 2}}).whole)
    clock.passed_s += 2 * KNOWN_S
    assert caller_of(access, incoming(signed(clock))).name == "agent_7"
    assert over_http.asked == asked
    in_force.exchange(configured(tmp_path, {"jwt": {**of_issuer, "audience": "another"}}).whole)
    with pytest.raises(Unauthenticated):
        caller_of(access, incoming(signed(clock)))
