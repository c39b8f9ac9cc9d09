"""`dreamsvc errors`: the error catalogue, to read or to look one up."""

import argparse
import json
from collections.abc import Sequence

from dreamsvc import errors
from dreamsvc.cli import output
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, Command, add_json_argument
from dreamsvc.cli.problems import print_problem
from dreamsvc.v1.error_reason_pb2 import ErrorReason
from dreamsvc.v1.options_pb2 import ErrorRule

_PAGE = """\
# Errors

Every error has a reason from this list. Over gRPC it is the `reason` of `google.rpc.ErrorInfo` (domain `dreamsvc`),
whose metadata hold the code of JSON-RPC and the hint; `google.rpc.RequestInfo` has the trace id under which the log
tells more, `BadRequest` the fields that are wrong, `RetryInfo` when to try again. `dreamsvc errors NAME` looks one up.
Clients repeat a call by themselves only on `UNAVAILABLE`, with the same `request_id`.

This page is what `dreamsvc errors --markdown` prints.
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="a reason or a code, e.g. ON_HOLD or -32101")
    parser.add_argument("--markdown", action="store_true", help="print the page of the documentation")
    add_json_argument(parser)


def _run(args: argparse.Namespace) -> int:
    if args.markdown:
        print(page(), end="")
        return EXIT_OK
    found = [(name, rule) for name, rule in _catalogue() if _is_meant(args.name, name, rule)]
    if not found:
        known = ", ".join(name for name, _ in _catalogue())
        print_problem(f"there is no error {args.name}", as_json=args.json, hint=f"known: {known}")
        return EXIT_FAILED
    if args.json:
        print(json.dumps({"errors": [_told(name, rule) for name, rule in found]}))
        return EXIT_OK
    for name, rule in found:
        output.print_text(f"{name}  (JSON-RPC {rule.json_rpc}, gRPC {rule.grpc}, HTTP {rule.http})")
        output.print_text(f"  {rule.meaning}\n  to mend it: {rule.hint}")
    return EXIT_OK


def page() -> str:
    """The catalogue as a page of Markdown."""
    rows = [(f"`{name}`", str(r.json_rpc), r.grpc, str(r.http), r.meaning, r.hint) for name, r in _catalogue()]
    head = ("reason", "JSON-RPC", "gRPC", "HTTP", "when", "what to do")
    return "\n".join([_PAGE, _row(head), _row(["---"] * len(head)), *map(_row, rows)]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _catalogue() -> list[tuple[str, ErrorRule]]:
    return [(errors.reason_name(reason), errors.rule(reason)) for reason in ErrorReason.values() if reason]


def _is_meant(wanted: str | None, name: str, rule: ErrorRule) -> bool:
    return wanted is None or wanted.upper() == name or wanted == str(rule.json_rpc)


def _told(name: str, rule: ErrorRule) -> dict[str, str | int]:
    return {
        "reason": name,
        "json_rpc": rule.json_rpc,
        "grpc": rule.grpc,
        "http": rule.http,
        "meaning": rule.meaning,
        "hint": rule.hint,
    }


COMMANDS = {
    "errors": Command(
        description="Lists the errors of the service: when each comes, how it looks from gRPC, HTTP and JSON-RPC, and"
        " what to do. Needs no server.",
        examples="""
            errors
            errors DREAM_COOLDOWN
            errors -32101 --json
        """,
        add_arguments=_arguments,
        run=_run,
    ),
}
