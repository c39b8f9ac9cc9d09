"""Calls as a door would let them in, without a door."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamsvc import bearer_tokens, config
from dreamsvc.clock import Clock, Micros
from dreamsvc.config import InForce
from dreamsvc.server.access import Access
from dreamsvc.server.callers import Caller, Incoming
from dreamsvc.server.rate_limits import RateLimits

HOUR_US = 3_600_000_000


class ByHand(Clock):
    """A clock that stands until it is moved; it shows a time of today, since certificates and issuers know the day."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self._began_us = super().now_us()

    def now_us(self) -> Micros:
        return Micros(self._began_us + round(self.passed_s * 1e6))

    def monotonic(self) -> float:
        return 1000.0 + self.passed_s


def settings(tmp_path: Path, security: Mapping[str, Any] | None = None, **server: Any) -> InForce:
    tables = {"store": {"path": str(tmp_path / "memory.db")}, "security": dict(security or {}), "server": server}
    return InForce(config.parse(tables))


def incoming(
    token: str = "", *, peer: str = "ipv4:192.0.2.7", certificate: str = "", authorization: str = ""
) -> Incoming:
    return Incoming(authorization or (f"Bearer {token}" if token else ""), "", lambda: peer, lambda: certificate)


def a_token(
    tmp_path: Path, *scopes: str, name: str = "agent", spaces: tuple[str, ...] = ("*",), expire_us: int | None = None
) -> str:
    """Makes a token in the file beside the store; its text."""
    made = bearer_tokens.make(
        name=name, scopes=scopes or ("admin",), spaces=spaces, now_us=Clock().now_us(), expire_us=expire_us
    )
    bearer_tokens.add(tmp_path / "memory.db.tokens", made)
    return made.text


def caller_of(access: Access, call: Incoming) -> Caller:
    return asyncio.run(access.caller(call))


def access_with(in_force: InForce, clock: Clock | None = None) -> Access:
    clock = clock or ByHand()
    return Access(in_force, clock, RateLimits(clock))
