"""`dreamsvc doctor`: a read-only check of a store, beside the service that has it open or without one."""

import argparse
import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager

from dreamsvc.cli import output
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, Command, add_json_argument
from dreamsvc.cli.output import plain
from dreamsvc.config_sources import default_store


def _arguments(parser: argparse.ArgumentParser) -> None:
    path = default_store(os.environ)
    shown = path.replace("%", "%%")
    parser.add_argument("--store", metavar="PATH", default=path, help=f"the database file (default: {shown})")
    add_json_argument(parser)


def _run(args: argparse.Namespace) -> int:
    # The memory's modules cost their time only where they are used.
    from dreamsvc import upkeep

    if args.json:
        findings = upkeep.doctor(args.store)
    else:
        with _progress() as tell:
            findings = upkeep.doctor(args.store, tell)
    healthy = all(finding.ok for finding in findings)
    if args.json:
        print(json.dumps({"ok": healthy, "findings": [one._asdict() for one in findings]}, ensure_ascii=False))
        return EXIT_OK if healthy else EXIT_FAILED
    for finding in findings:
        detail = f": {finding.detail}" if finding.detail else ""
        print(plain(f"{'ok   ' if finding.ok else 'WRONG'}  {finding.name}{detail}"))
        if finding.mend:
            print(plain(f"       to mend it: {finding.mend}"))
    print("nothing is wrong" if healthy else "something is wrong, see above")
    return EXIT_OK if healthy else EXIT_FAILED


@contextmanager
def _progress() -> Generator[Callable[[str, int, int], None]]:
    """Shows the check that runs, where somebody looks on."""
    with output.console(stderr=True).status("looking") as status:

        def tell(name: str, number: int, total: int) -> None:
            status.update(f"{number}/{total}  {name}")

        yield tell


COMMANDS = {
    "doctor": Command(
        description="Checks a store from end to end, also while it is served, and says how to mend what is wrong. It"
        " changes nothing and needs no server. On a large store it takes minutes.",
        examples="""
            doctor
            doctor --store ./memory.db --json
        """,
        add_arguments=_arguments,
        run=_run,
        exit_codes="exit codes: 0 nothing is wrong, 1 something is wrong, 2 wrong usage",
    ),
}
