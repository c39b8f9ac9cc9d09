"""`dreamsvc doctor`: a read-only check of a store that no service has open."""

import argparse
import json

from dreamsvc import config
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, Command, add_json_argument
from dreamsvc.cli.problems import print_dreamsvc_error
from dreamsvc.errors import DreamsvcError


def _arguments(parser: argparse.ArgumentParser) -> None:
    path = config.defaults().store.path
    parser.add_argument("--store", metavar="PATH", default=path, help=f"the database file (default: {path})")
    add_json_argument(parser)


def _run(args: argparse.Namespace) -> int:
    try:
        # The server's modules cost their time only where they are used.
        from dreamsvc import app

        findings = app.doctor(args.store)
    except DreamsvcError as error:
        print_dreamsvc_error(error, as_json=args.json)
        return EXIT_FAILED
    healthy = all(finding.ok for finding in findings)
    if args.json:
        listed = [{"name": finding.name, "ok": finding.ok, "detail": finding.detail} for finding in findings]
        print(json.dumps({"ok": healthy, "findings": listed}, ensure_ascii=False))
    else:
        for finding in findings:
            detail = f": {finding.detail}" if finding.detail else ""
            print(f"{'ok   ' if finding.ok else 'WRONG'}  {finding.name}{detail}")
        print(
            "nothing is wrong"
            if healthy
            else "something is wrong, see above; `dreamsvc import` reads an export back into a new store"
        )
    return EXIT_OK if healthy else EXIT_FAILED


COMMANDS = {
    "doctor": Command(
        description="Checks a store from end to end. It changes nothing and needs no server.",
        examples="""
            doctor
            doctor --store ./memory.db --json
        """,
        add_arguments=_arguments,
        run=_run,
        exit_codes="exit codes: 0 nothing is wrong, 1 something is wrong, 2 wrong usage",
    ),
}
