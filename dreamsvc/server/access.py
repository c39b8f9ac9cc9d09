"""Who is let in: bearer tokens, tokens of the issuer, certificates, or anybody where nobody has to say who they are."""

import asyncio
import logging
from pathlib import Path

from dreamsvc import bearer_tokens, errors
from dreamsvc.bearer_tokens import ADMIN, ALL_SPACES, PREFIX
from dreamsvc.clock import Clock
from dreamsvc.config import InForce
from dreamsvc.errors import RateLimited, Unauthenticated
from dreamsvc.server import exposure
from dreamsvc.server.callers import ANYBODY, Caller, Incoming, caller
from dreamsvc.server.issuer_tokens import IssuerTokens
from dreamsvc.server.rate_limits import RateLimits
from dreamsvc.server.watched import Watched
from dreamsvc.v1.access_pb2 import StoredToken
from dreamsvc.v1.config_pb2 import Config, JwtConfig, SecurityConfig

logger = logging.getLogger(__name__)
LOOK_S = 0.5
FAILURES = "failures"
NOBODY = "there are no credentials; send a token as `authorization: Bearer TOKEN`"
# One text for all of them: what is wrong with a token is nobody's business.
NO_TOKEN = "the token is unknown, revoked or expired"


class Access:
    """Belongs to the event loop. `watch` keeps it up to date with its files and with the configuration."""

    def __init__(self, config: InForce, clock: Clock, limits: RateLimits) -> None:
        """Raises InvalidFields where the service would stand open, or its files cannot be used."""
        exposure.check(config.whole)
        self._config = config
        self._clock = clock
        self._limits = limits
        self._beyond = exposure.beyond_loopback(config.server.host)
        self.asks = False
        self._issuer: IssuerTokens | None = None
        # What the issuer's tokens are verified by.
        self._jwt = JwtConfig()
        # Why its files could not be looked at the last time, '' where they could.
        self._trouble = ""
        self._take_up(config.whole, before=False)
        # Who has just switched it off by the configuration means it.
        config.on_exchange(
            lambda old, now: self._take_up(now, before=self.asks and old.security.auth == now.security.auth)
        )

    def _take_up(self, config: Config, *, before: bool) -> None:
        path = bearer_tokens.path_of(config)
        # All of it or, where one of them cannot be had, nothing.
        watched = None if path is None else Watched([path], lambda: _tokens(path))
        if config.security.jwt != self._jwt:
            # Only then: the keys that are there are worth more than an issuer that may not answer now.
            issuer = IssuerTokens(config.security.jwt, self._clock) if config.security.jwt.issuer else None
            self._issuer, self._jwt = issuer, config.security.jwt
        self._file, self._watched = path, watched
        self._tokens: dict[str, StoredToken] = {} if watched is None else watched.value
        self.asks = self._must_ask(config.security, before=before)

    def _must_ask(self, security: SecurityConfig, *, before: bool) -> bool:
        """Whether credentials are asked for. Once they are, a file that vanishes opens nothing."""
        match security.auth:
            case "off":
                return False
            case "auto":
                there = self._file is not None and _may_be_there(self._file)
                return before or self._beyond or there or self._issuer is not None
            case _:
                return True

    async def watch(self) -> None:
        """Reads again what has changed, for as long as the service runs."""
        while True:
            try:
                await self.look()
                self._trouble = ""
            except Exception as error:
                # Whatever it is, it is looked again: who is let in stays as it is until then.
                trouble = errors.told(error)
                if trouble != self._trouble:
                    logger.error("the files of credentials cannot be looked at; tried again: %s", trouble)
                self._trouble = trouble
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        watched, issuer = self._watched, self._issuer
        if watched is not None and await asyncio.to_thread(watched.again) and watched is self._watched:
            self._tokens = watched.value
        asks = self._must_ask(self._config.security, before=self.asks)
        if asks and not self.asks:
            logger.info("credentials are asked for from now on: there are tokens")
        self.asks = asks
        if issuer is not None:
            await issuer.refresh()

    def is_nobody(self, authorization: str) -> bool:
        """Whether `caller` refuses such a call, as far as that is known without waiting; counts nothing."""
        if not self.asks:
            return False
        if not (text := _bearer(authorization)):
            return self._config.security.auth != "certificate"
        return self._is_ours(text) and bearer_tokens.known(self._tokens, text, self._clock.now_us()) is None

    async def caller(self, incoming: Incoming) -> Caller:
        """Whose call it is; raises Unauthenticated, or RateLimited where an address has failed too often."""
        if not self.asks:
            return ANYBODY
        if text := _bearer(incoming.authorization):
            found = await self._by_token(text)
            if found is not None:
                return found
            raise self._failed(incoming, NO_TOKEN)
        if self._config.security.auth == "certificate" and (name := incoming.certificate()):
            return caller(name, f"certificate:{name}", [ADMIN], [ALL_SPACES])
        raise self._failed(incoming, NOBODY)

    def recheck(self, known: Caller) -> None:
        """For long calls: raises Unauthenticated where the credentials hold no longer."""
        if known is ANYBODY:
            gone = self.asks
        else:
            gone = bool(known.token_id) and known.token_id not in self._tokens
            gone = gone or (known.until_us is not None and known.until_us <= self._clock.now_us())
        if gone:
            raise Unauthenticated(NO_TOKEN)

    async def _by_token(self, text: str) -> Caller | None:
        if self._issuer is None or self._is_ours(text):
            stored = bearer_tokens.known(self._tokens, text, self._clock.now_us())
            return None if stored is None else _as_caller(stored)
        # Also from an address that failed often: others may share it, and a signature costs less than the call did.
        return self._issuer.known(text) or await self._issuer.verified(text)

    def _is_ours(self, text: str) -> bool:
        """Whether a token is none of the issuer's."""
        return self._issuer is None or text.startswith(PREFIX)

    def _failed(self, incoming: Incoming, why: str) -> Exception:
        limits = self._config.security.rate_limits
        if limits.enabled == "off":
            return Unauthenticated(why)
        wait_s = self._limits.take(incoming.peer(), FAILURES, limits.failures_per_second, limits.failures_burst)
        return _too_often(incoming.peer(), wait_s) if wait_s else Unauthenticated(why)


def _bearer(authorization: str) -> str:
    """The token in a header, '' where there is none."""
    kind, _, text = authorization.partition(" ")
    return text.strip() if kind.lower() == "bearer" else ""


def _too_often(peer: str, wait_s: float) -> RateLimited:
    return RateLimited(
        "too many calls with credentials that are none",
        subject=f"address:{peer}",
        limit="calls that fail to authenticate",
        retry_after_s=wait_s,
    )


def _may_be_there(path: Path) -> bool:
    """Whether a file is there; also where nobody can look, since what cannot be seen must open nothing."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _tokens(path: Path) -> dict[str, StoredToken]:
    return {token.id: token for token in bearer_tokens.read(path).tokens}


def _as_caller(stored: StoredToken) -> Caller:
    until_us = bearer_tokens.expires_us(stored)
    return caller(
        stored.name, f"token:{stored.id}", stored.scopes, stored.spaces, until_us=until_us, token_id=stored.id
    )
