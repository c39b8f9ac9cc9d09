"""What a command is made of, the options that many share, and the exit codes."""

import argparse
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from dreamsvc import clock

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DREAM_BROKEN_OFF = 3
EXIT_NOTHING_TO_DREAM = 4
EXIT_INTERRUPTED = 130

EXIT_CODES = "exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted"

DEFAULT_SERVER = "127.0.0.1:50051"

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
# The longer name stands first, so that it is tried first.
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Command(NamedTuple):
    """One command: what `--help` says of it, its options, what it does."""

    description: str
    # One a line, without the leading "dreamsvc".
    examples: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    # Takes what the options gave, returns the exit code.
    run: Callable[[argparse.Namespace], int]
    exit_codes: str = EXIT_CODES


def parser_for(name: str, command: Command) -> argparse.ArgumentParser:
    examples = "\n".join(f"  dreamsvc {line.strip()}" for line in command.examples.strip().splitlines())
    parser = argparse.ArgumentParser(
        prog=f"dreamsvc {name}",
        description=command.description,
        epilog=f"examples:\n{examples}\n\n{command.exit_codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    return parser


def add_call_arguments(parser: argparse.ArgumentParser) -> None:
    """What every call about a space needs."""
    add_server_arguments(parser)
    parser.add_argument("--space", default="default", help='the space of memories (default: "default")')


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """What every call of a server needs."""
    add_identity_arguments(parser)
    parser.add_argument(
        "--timeout", metavar="TIME", type=duration_s, default=30.0, help="how long to wait for an answer (default: 30s)"
    )
    add_json_argument(parser)


def add_identity_arguments(parser: argparse.ArgumentParser) -> None:
    """Whom to call, who calls, and whom to trust; a token of the environment is read when it is needed."""
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=os.environ.get("DREAMSVC_SERVER") or DEFAULT_SERVER,
        help=f"the service (environment: DREAMSVC_SERVER; else {DEFAULT_SERVER})",
    )
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help="a bearer token; others on this machine see it here, but not in DREAMSVC_TOKEN or in --token-file",
    )
    parser.add_argument(
        "--token-file", metavar="FILE", type=Path, help="a file with the token in it (environment: DREAMSVC_TOKEN_FILE)"
    )
    parser.add_argument("--tls", action="store_true", help="encrypt, and trust the roots of this system")
    for name, what, variable in (
        ("ca", "the roots to trust instead", "DREAMSVC_TLS_CA"),
        ("cert", "a certificate of ours", "DREAMSVC_TLS_CERT"),
        ("key", "its key", "DREAMSVC_TLS_KEY"),
    ):
        parser.add_argument(f"--tls-{name}", metavar="FILE", type=Path, help=f"{what}, PEM (environment: {variable})")


def next_page(command: str, page_token: str, args: argparse.Namespace, filters: Mapping[str, Iterable[str]]) -> str:
    """The command that shows the page after this one; a token holds for the same space and filters only."""
    words = ["dreamsvc", command]
    for option, values in {**filters, "--space": [] if args.space == "default" else [args.space]}.items():
        words += [word for value in values if value for word in (option, value)]
    return f"more: {shlex.join([*words, '--page-token', page_token])}"


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, errors too")


def path(text: str) -> Path:
    """The name of a file; for argparse."""
    if not text:
        raise argparse.ArgumentTypeError("the name of a file is empty")
    return Path(text)


def duration_s(text: str) -> float:
    """Seconds of "90s", "3m", "1h30m", "500ms" or plain "90"; for argparse."""
    if re.fullmatch(_NUMBER, text):
        return float(text)
    parts = re.findall(f"({_NUMBER})({'|'.join(_UNIT_S)})", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 3m, 1h30m or 500ms")
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


def moment(text: str) -> Timestamp:
    """A point in time such as 2026-03-01 or 2026-03-01T12:00:00+01:00, UTC unless it says otherwise; for argparse."""
    try:
        return clock.to_timestamp(clock.from_iso(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 2026-03-01 or 2026-03-01T12:00:00Z") from None


def count(text: str) -> int:
    """A whole number from 0 to 2^64 - 1; for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 2^64 - 1")
    return int(text)


def unit_share(text: str) -> float:
    """A number from 0 to 1; for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value
