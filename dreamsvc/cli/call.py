"""How a command calls the server: one client, every error explained."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import grpc
from dreamsvc_client import Client, Credentials, CredentialsError, DreamsvcCallError
from dreamsvc_client.credentials import read_token

from dreamsvc.cli.command import EXIT_FAILED
from dreamsvc.cli.problems import print_problem

HOW_TO_SAY_WHO = "--token-file or DREAMSVC_TOKEN has the token; --tls, or --tls-ca FILE, encrypts"
NO_SERVER = "start one with: dreamsvc serve; or name another with --server HOST:PORT or DREAMSVC_SERVER"
Call = Callable[[Client, argparse.Namespace], int]


def calling(call: Call) -> Callable[[argparse.Namespace], int]:
    """Gives a command's function its client, and turns what goes wrong into text and an exit code."""

    def run(args: argparse.Namespace) -> int:
        try:
            with client_for(args) as client:
                return call(client, args)
        except CredentialsError as error:
            print_problem(str(error), as_json=args.json, hint=HOW_TO_SAY_WHO)
        except DreamsvcCallError as error:
            explain(error, args)
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            print_problem(f"{where}{error.strerror or error}", as_json=args.json)
        return EXIT_FAILED

    return run


def client_for(args: argparse.Namespace) -> Client:
    """Raises CredentialsError, and OSError for a file that cannot be read."""
    token, token_file = args.token, args.token_file
    if token is None and token_file is None:
        token, token_file = os.environ.get("DREAMSVC_TOKEN"), _path_in("DREAMSVC_TOKEN_FILE")
    if token is None and token_file is not None:
        token = read_token(token_file)
    credentials = Credentials(
        token=token or "",
        tls=args.tls,
        tls_ca=args.tls_ca or _path_in("DREAMSVC_TLS_CA"),
        tls_cert=args.tls_cert or _path_in("DREAMSVC_TLS_CERT"),
        tls_key=args.tls_key or _path_in("DREAMSVC_TLS_KEY"),
    )
    return Client(args.server, timeout_s=args.timeout, credentials=credentials)


def _path_in(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def explain(error: DreamsvcCallError, args: argparse.Namespace) -> None:
    what, hint = error.message, error.hint
    if error.unreachable:
        what, hint = _unreachable(error.message, args.server)
    elif error.code is grpc.StatusCode.DEADLINE_EXCEEDED and not error.reason:
        what = f"{args.server} did not answer within {args.timeout:g} s"
        hint = "give it longer with --timeout"
    elif not error.reason:
        what = f"{error.code.name}: {error.message}"
    print_problem(
        what,
        as_json=args.json,
        reason=error.reason,
        violations=error.violations,
        hint=hint,
        retry_after_s=error.retry_after_s,
        trace_id=error.trace_id,
    )


def _unreachable(said: str, server: str) -> tuple[str, str]:
    """What gRPC says of a connection that did not come about, and what can be done."""
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return f"the certificate of {server} is signed by nobody that is trusted", "--tls-ca FILE says whom to trust"
    if "Hostname Verification" in said:
        return f"the certificate at {server} is for another name", "call the service by a name that its certificate has"
    if "WRONG_VERSION_NUMBER" in said:
        return f"{server} does not speak TLS", "leave --tls and its files out, or start the service with security.tls"
    if "Tls handshake failed" in said:
        return f"no encrypted connection to {server}", "it may ask for a certificate: --tls-cert FILE --tls-key FILE"
    if "Socket closed" in said:
        return f"{server} closed the connection", "a service with TLS is called with --tls, or --tls-ca FILE"
    return f"no server answers at {server}", NO_SERVER
