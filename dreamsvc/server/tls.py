"""TLS by grpcio: versions 1.2 and 1.3, certificates of clients where they are asked for, files read again."""

import logging
import ssl
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from dreamsvc.errors import InvalidFields, Violation, invalid
from dreamsvc.server.watched import Watched
from dreamsvc.v1.config_pb2 import TlsConfig

logger = logging.getLogger(__name__)
PATH = "security.tls"


class _Files(NamedTuple):
    """What is in the files, as PEM; no client_ca: no certificate is asked for."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


def check(config: TlsConfig) -> None:
    """Raises InvalidFields where the configured files are missing, unreadable, or do not belong together."""
    if not config.cert_file:
        wrong = [name for name in ("key_file", "client_ca_file") if getattr(config, name)]
        if wrong:
            raise InvalidFields([Violation(f"{PATH}.{name}", "says nothing without cert_file") for name in wrong])
        return
    if not config.key_file:
        raise invalid(f"{PATH}.key_file", "is required with cert_file")
    _read(config)


def server_credentials(config: TlsConfig) -> grpc.ServerCredentials | None:
    """None where no TLS is configured. Raises InvalidFields as `check` does."""
    check(config)
    if not config.cert_file:
        return None
    paths = [Path(name).expanduser() for name in (config.cert_file, config.key_file, config.client_ca_file) if name]
    files = Watched(paths, lambda: _read(config))

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        # For each connection, before its handshake, in a thread of gRPC; None: as before.
        return _as_grpc(files.value) if files.again() else None

    as_before: Any = fetch  # its None, which gRPC documents, is not in its types
    return grpc.dynamic_ssl_server_credentials(
        _as_grpc(files.value), as_before, require_client_authentication=bool(config.client_ca_file)
    )


def _as_grpc(files: _Files) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(files.key, files.certificate)], root_certificates=files.client_ca
    )


def _read(config: TlsConfig) -> _Files:
    """The files, tried out: gRPC itself would fail each handshake, and say nothing of it to anybody."""
    certificate = _content("cert_file", config.cert_file)
    key = _content("key_file", config.key_file)
    client_ca = _content("client_ca_file", config.client_ca_file) if config.client_ca_file else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert_file, key_file = Path(config.cert_file).expanduser(), Path(config.key_file).expanduser()
    try:
        # With a password of its own it does not ask for one on the terminal.
        context.load_cert_chain(cert_file, key_file, password=b"")
    except (ssl.SSLError, ValueError) as error:
        raise invalid(f"{PATH}.key_file", _why_no_pair(error, key)) from error
    if client_ca is not None:
        try:
            context.load_verify_locations(cadata=client_ca.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise invalid(f"{PATH}.client_ca_file", "has no certificate in PEM") from error
    return _Files(certificate, key, client_ca)


def _why_no_pair(error: Exception, key: bytes) -> str:
    if b"ENCRYPTED" in key:
        return "is encrypted; decrypt it, e.g. with: openssl pkey -in KEY -out PLAIN"
    reason = getattr(error, "reason", None) or "no PEM"
    return f"is no private key of the certificate in cert_file ({reason.lower().replace('_', ' ')})"


def _content(name: str, path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise invalid(f"{PATH}.{name}", f"{path} cannot be read: {error.strerror}") from error
