"""How a client says who it is, and whom it trusts: a bearer token, TLS, a certificate of its own."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

AUTHORIZATION = "authorization"


class CredentialsError(ValueError):
    """Credentials that cannot be used, or would not be safe to use."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """All optional; nothing of it is ever printed.

    Without `tls` and any of its files, the connection is not encrypted; a token is then sent to this machine only.
    """

    token: str = field(default="", repr=False)
    # True: trusts what the system trusts, unless `tls_ca` says otherwise.
    tls: bool = False
    # PEM files: whom to trust instead; our certificate with those behind it, and its key.
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def encrypts(self) -> bool:
        return self.tls or any((self.tls_ca, self.tls_cert, self.tls_key))

    def __repr__(self) -> str:
        return f"Credentials(token={'...' if self.token else 'none'}, tls={self.encrypts})"


def read_token(path: Path) -> str:
    """The token in a file; raises OSError, and CredentialsError where the file is empty."""
    token = path.read_text(encoding="utf-8").strip()
    if not token:
        raise CredentialsError(f"{path} has no token in it")
    return token


def open_channel(target: str, credentials: Credentials, options: tuple[tuple[str, int], ...]) -> grpc.Channel:
    """Raises CredentialsError, and OSError for a file that cannot be read."""
    token = credentials.token
    if token and (not token.isascii() or not token.isprintable() or " " in token):
        raise CredentialsError("the token has letters that no token has")
    if (credentials.tls_cert is None) != (credentials.tls_key is None):
        raise CredentialsError("a certificate and its key are given together")
    if credentials.encrypts:
        secure = grpc.ssl_channel_credentials(
            *(_content(path) for path in (credentials.tls_ca, credentials.tls_key, credentials.tls_cert))
        )
        channel = grpc.secure_channel(target, secure, options=options)
    elif token and not stays_here(target):
        raise CredentialsError(f"a token is not sent to {target} without TLS")
    else:
        channel = grpc.insecure_channel(target, options=options)
    return grpc.intercept_channel(channel, _Bearer(token)) if token else channel


def stays_here(target: str) -> bool:
    """Whether what is sent to a target does not leave this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    host = target.removeprefix("dns:").lstrip("/").removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0]
    host = host.strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _content(path: Path | None) -> bytes | None:
    return None if path is None else path.expanduser().read_bytes()


class _Details(grpc.ClientCallDetails):
    """What gRPC knows of a call, with a header more."""

    def __init__(self, details: Any, header: tuple[str, str]) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = (*(details.metadata or ()), header)
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression


class _Bearer(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor):
    """Sends the token along with each call. Credentials of gRPC for calls would do it on encrypted channels only."""

    def __init__(self, token: str) -> None:
        self._header = (AUTHORIZATION, f"Bearer {token}")

    def _with_token(self, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        return continuation(_Details(details, self._header), request)

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._with_token(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return self._with_token(continuation, client_call_details, request)

    def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return self._with_token(continuation, client_call_details, request_iterator)
