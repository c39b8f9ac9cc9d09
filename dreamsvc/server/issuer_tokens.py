"""Tokens (JWT) of an identity provider, verified by PyJWT: signature, issuer, audience, times.

Only public-key signatures are taken, whatever the configuration says: with a shared secret, or with none, whoever has
the public keys could make tokens.
"""

import asyncio
import hashlib
import json
import logging
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from dreamsvc.bearer_tokens import SCOPES
from dreamsvc.clock import Clock
from dreamsvc.errors import InvalidFields, Violation, invalid
from dreamsvc.server.callers import Caller, caller
from dreamsvc.v1.config_pb2 import JwtConfig

logger = logging.getLogger(__name__)
PATH = "security.jwt"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
BY_DEFAULT = ("RS256", "ES256", "EdDSA")
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
FETCH_S = 5.0
MOST_KEY_BYTES = 1 << 20
# A key that nobody knows is looked for so often at most, or tokens of nobody would have keys fetched without end.
LOOK_AGAIN_S = 10.0
# What was verified is known for a while: a signature takes as long as a whole call.
KNOWN_S = 60.0
MOST_KNOWN = 1_000
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._@|:-]")
type Keys = dict[str, Any]


def check(config: JwtConfig) -> None:
    """Raises InvalidFields naming all that is missing or not allowed; fetches nothing."""
    if not config.issuer:
        given = [name for name in ("audience", "jwks") if getattr(config, name)]
        if given:
            raise InvalidFields([Violation(f"{PATH}.{name}", "says nothing without issuer") for name in given])
        return
    wrong = [Violation(f"{PATH}.{name}", "is required") for name in ("audience", "jwks") if not getattr(config, name)]
    for algorithm in config.algorithms:
        if algorithm not in ALGORITHMS:
            told = f'has "{algorithm[:40]}"; allowed are {", ".join(ALGORITHMS)}'
            wrong.append(Violation(f"{PATH}.algorithms", told))
    where = urlsplit(config.jwks)
    if where.scheme == "http" and where.hostname not in LOOPBACK:
        wrong.append(Violation(f"{PATH}.jwks", "must be https: whoever changes the keys on the way makes any token"))
    if find_spec("jwt") is None or find_spec("cryptography") is None:
        wrong.append(Violation(f"{PATH}.issuer", "needs PyJWT; pip install 'dreamsvc[jwt]'"))
    if wrong:
        raise InvalidFields(wrong)
    if where.scheme not in ("http", "https"):
        _require_keys(_file(config.jwks))


class IssuerTokens:
    """Verifies tokens of one issuer. Belongs to one event loop; only `fetched` may run elsewhere."""

    def __init__(self, config: JwtConfig, clock: Clock) -> None:
        """Raises InvalidFields where the configuration or the file of keys is wrong."""
        check(config)
        self._config = config
        self._clock = clock
        self._algorithms = list(config.algorithms) or list(BY_DEFAULT)
        self._remote = urlsplit(config.jwks).scheme in ("http", "https")
        # None yet: PyJWT takes 70 ms and 15 MB to import, which a start does not wait for.
        self._keys: Keys = {}
        self._fetched_s = -math.inf
        self._fetching = asyncio.Lock()
        # By digest of the token, the newest last: whose it is, and until when that is known.
        self._known: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def known(self, text: str) -> Caller | None:
        """Whose a token is, where it was verified a short while ago."""
        found = self._known.get(_digest(text))
        if found is None or found[1] <= self._clock.monotonic() or _over(found[0], self._clock.now_us()):
            return None
        return found[0]

    async def verified(self, text: str) -> Caller | None:
        """Whose a token is, or None; why, without the token, is in the log."""
        if not self._keys:
            await self.refresh(LOOK_AGAIN_S)
            if not self._keys:
                logger.info("a token of the issuer was refused: there are no keys")
                return None
        # Imported with the first keys, in a thread.
        import jwt

        try:
            header: dict[str, Any] = jwt.get_unverified_header(text)
            key = await self._key(header.get("kid"))
            if key is None:
                logger.info("a token of the issuer was refused: its key is not known")
                return None
            claims: dict[str, Any] = jwt.decode(
                text,
                key,
                algorithms=self._algorithms,
                audience=self._config.audience,
                issuer=self._config.issuer,
                leeway=self._config.leeway_seconds,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            # Its text may have claims of the token in it.
            logger.info("a token of the issuer was refused: %s", type(error).__name__)
            return None
        found = self._caller(claims)
        self._known[_digest(text)] = found, self._clock.monotonic() + KNOWN_S
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return found

    async def refresh(self, after_s: float | None = None) -> None:
        """Takes the keys anew where they are older than that, by default as old as configured; never raises."""
        after_s = self._config.refresh_seconds if after_s is None else after_s
        async with self._fetching:
            if self._clock.monotonic() - self._fetched_s < after_s:
                return
            self._fetched_s = self._clock.monotonic()
            try:
                keys = await asyncio.to_thread(self.fetched)
            except InvalidFields as error:
                logger.error("the keys of the issuer stay as they are: %s", error.message)
                return
            if keys.keys() != self._keys.keys():
                # What a key signed that was withdrawn counts no longer.
                self._known.clear()
            self._keys = keys

    def fetched(self) -> Keys:
        """Raises InvalidFields."""
        return _keys(_downloaded(self._config.jwks) if self._remote else _file(self._config.jwks))

    async def _key(self, kid: object) -> Any:
        if self._found(kid) is None:
            await self.refresh(LOOK_AGAIN_S)
        return self._found(kid)

    def _found(self, kid: object) -> Any:
        if isinstance(kid, str):
            return self._keys.get(kid)
        # A set of one key needs no names.
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        subject = _NOT_IN_NAMES.sub("_", str(claims["sub"]))[:128] or "_"
        scopes = [scope for scope in _words(claims.get(self._config.scopes_claim)) if scope in SCOPES]
        until_us = int((float(claims["exp"]) + self._config.leeway_seconds) * 1e6)
        spaces = _words(claims.get(self._config.spaces_claim))
        return caller(subject, f"issuer:{subject}", scopes, spaces, until_us=until_us)


def _require_keys(content: bytes) -> None:
    """Raises InvalidFields for what is no JWKS; whether each key is one shows when they are taken up."""
    try:
        whole: Any = json.loads(content)
        kinds = [key["kty"] for key in whole["keys"]]
    except (ValueError, TypeError, KeyError) as error:
        raise invalid(f"{PATH}.jwks", f"is no set of keys (JWKS): {type(error).__name__}") from error
    if not set(kinds) & {"RSA", "EC", "OKP"}:
        raise invalid(f"{PATH}.jwks", "has no public key (RSA, EC or OKP)")


def _words(claim: object) -> list[str]:
    if isinstance(claim, str):
        return claim.split()
    return [item for item in cast("list[object]", claim) if isinstance(item, str)] if isinstance(claim, list) else []


def _over(found: Caller, now_us: int) -> bool:
    return found.until_us is not None and found.until_us <= now_us


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _keys(content: bytes) -> Keys:
    """The public keys of a JWKS by their names; raises InvalidFields."""
    import jwt

    try:
        whole = jwt.PyJWKSet.from_dict(json.loads(content))
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
        raise invalid(f"{PATH}.jwks", f"is no set of keys (JWKS): {type(error).__name__}") from error
    return {key.key_id or str(i): key for i, key in enumerate(whole.keys) if key.key_type != "oct"}


def _file(name: str) -> bytes:
    try:
        return Path(name).expanduser().read_bytes()
    except OSError as error:
        raise invalid(f"{PATH}.jwks", f"{name} cannot be read: {error.strerror}") from error


def _downloaded(address: str) -> bytes:
    # Only where keys are fetched.
    from urllib.request import urlopen

    open_url: Callable[..., Any] = urlopen
    try:
        with open_url(address, timeout=FETCH_S) as answer:
            return answer.read(MOST_KEY_BYTES)
    except (OSError, ValueError) as error:
        raise invalid(f"{PATH}.jwks", f"{address} cannot be fetched: {type(error).__name__}") from error
