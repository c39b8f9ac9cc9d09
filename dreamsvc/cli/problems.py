"""Errors as people and programs read them on standard error: what, where, what to do."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from dreamsvc import errors
from dreamsvc.cli.command import EXIT_FAILED


def print_problem(
    what: str,
    *,
    as_json: bool,
    reason: str = "",
    violations: Sequence[tuple[str, str]] = (),
    hint: str = "",
    retry_after_s: float | None = None,
    trace_id: str = "",
) -> None:
    """Prints a problem; with `as_json` as one object {"error": {...}} on one line."""
    if as_json:
        error: dict[str, Any] = {"reason": reason, "message": what, "hint": hint}
        error["violations"] = [{"field": path, "message": message} for path, message in violations]
        if retry_after_s is not None:
            error["retry_after_s"] = retry_after_s
        if trace_id:
            error["trace_id"] = trace_id
        print(json.dumps({"error": error}, ensure_ascii=False), file=sys.stderr)
        return
    # With fields listed below, the message would say the same once more.
    first = "some fields are wrong" if violations else what
    lines = [f"dreamsvc: {f'{reason}: ' if reason else ''}{first}"]
    lines += [f"  {path}: {message}" for path, message in violations]
    if hint:
        lines.append(f"  hint: {hint}")
    if retry_after_s is not None:
        lines.append(f"  try again in: {retry_after_s:.3g} s")
    if trace_id:
        lines.append(f"  trace id: {trace_id}")
    print("\n".join(lines), file=sys.stderr)


def print_notice(text: str) -> None:
    """Prints what a person should know beside the result."""
    print(text, file=sys.stderr)


def print_dreamsvc_error(error: errors.DreamsvcError, *, as_json: bool) -> None:
    """Prints an error that was raised here and not by a server."""
    print_problem(
        error.message,
        as_json=as_json,
        reason=errors.reason_name(error.reason),
        violations=error.violations if isinstance(error, errors.InvalidFields) else (),
        hint=errors.rule(error.reason).hint,
        retry_after_s=error.retry_after_s,
    )


def explaining(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Turns what goes wrong in a command without a server into text and an exit code."""

    def told(args: argparse.Namespace) -> int:
        try:
            return run(args)
        except errors.DreamsvcError as error:
            print_dreamsvc_error(error, as_json=args.json)
        except BrokenPipeError:
            raise
        except OSError as error:
            print_problem(str(error), as_json=args.json)
        return EXIT_FAILED

    return told
