"""How a command calls the server: one client, every error explained."""

import argparse
from collections.abc import Callable

import grpc
from dreamsvc_client import Client, DreamsvcCallError

from dreamsvc.cli.command import EXIT_FAILED
from dreamsvc.cli.problems import print_problem

Call = Callable[[Client, argparse.Namespace], int]


def calling(call: Call) -> Callable[[argparse.Namespace], int]:
    """Gives a command's function its client, and turns what goes wrong into text and an exit code."""

    def run(args: argparse.Namespace) -> int:
        try:
            with Client(args.server, timeout_s=args.timeout) as client:
                return call(client, args)
        except DreamsvcCallError as error:
            explain(error, args)
        except BrokenPipeError:
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            print_problem(f"{where}{error.strerror or error}", as_json=args.json)
        return EXIT_FAILED

    return run


def explain(error: DreamsvcCallError, args: argparse.Namespace) -> None:
    what, hint = error.message, error.hint
    if error.unreachable:
        what = f"no server answers at {args.server}"
        hint = "start one with: dreamsvc serve; or name another with --server HOST:PORT or DREAMSVC_SERVER"
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
