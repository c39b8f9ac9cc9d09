"""What may stand open: a service beyond this machine has TLS and asks for credentials, or does not start."""

import ipaddress
import socket

from dreamsvc import bearer_tokens
from dreamsvc.errors import InvalidFields, Violation
from dreamsvc.server import issuer_tokens, tls
from dreamsvc.v1.config_pb2 import Config


def check(config: Config) -> None:
    """Raises InvalidFields with all that is missing, and how to mend it."""
    security = config.security
    wrong: list[Violation] = []
    for checked in (lambda: tls.check(security.tls), lambda: issuer_tokens.check(security.jwt)):
        try:
            checked()
        except InvalidFields as error:
            wrong += error.violations
    if security.auth == "certificate" and not security.tls.client_ca_file:
        wrong.append(Violation("security.tls.client_ca_file", 'is required with security.auth = "certificate"'))
    try:
        tokens = _tokens(config)
    except InvalidFields as error:
        wrong += error.violations
        tokens = 1
    if beyond_loopback(config.server.host):
        wrong += _beyond(config, tokens)
    telemetry = config.telemetry
    if telemetry.metrics_port and not telemetry.metrics_open and beyond_loopback(telemetry.metrics_host):
        told = f'"{telemetry.metrics_host[:80]}" is not loopback, so others can read names of spaces and counts'
        wrong.append(
            Violation("telemetry.metrics_host", f"{told}, without TLS or a token; metrics_open = true allows that")
        )
    if wrong:
        raise InvalidFields(wrong)


def beyond_loopback(host: str) -> bool:
    """Whether others than this machine may reach an address; also where nobody knows what it is."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host or "::", None)}
    except (OSError, UnicodeError):
        return True
    return not all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def _tokens(config: Config) -> int:
    """How many there are; raises InvalidFields where nobody can tell."""
    path = bearer_tokens.path_of(config)
    return 0 if path is None else len(bearer_tokens.read(path).tokens)


def _beyond(config: Config, tokens: int) -> list[Violation]:
    host, security = config.server.host, config.security
    told = f'"{host[:80]}" is not loopback, so others can reach it'
    wrong: list[Violation] = []
    if not security.tls.cert_file:
        wrong.append(
            Violation("security.tls.cert_file", f"is required with key_file: server.host {told}, and needs TLS")
        )
    if security.auth == "off":
        wrong.append(Violation("security.auth", f'is "off": server.host {told}, and needs credentials'))
    elif not tokens and not security.jwt.issuer and security.auth != "certificate":
        wrong.append(
            Violation(
                "security.tokens_file",
                f"has no token yet: server.host {told}; `dreamsvc token create` makes one; or configure security.jwt",
            )
        )
    if wrong:
        wrong.append(Violation("server.host", 'or serve loopback only, which is the default: "127.0.0.1"'))
    return wrong
