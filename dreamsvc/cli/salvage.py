"""`dreamsvc salvage`: what a damaged store still holds, as a store of its own."""

import argparse
import json
import os
from pathlib import Path

from dreamsvc.cli import output
from dreamsvc.cli.command import EXIT_OK, Command, add_json_argument
from dreamsvc.cli.command import path as file_path
from dreamsvc.cli.output import counted
from dreamsvc.cli.problems import explaining
from dreamsvc.config_sources import default_store


def _arguments(parser: argparse.ArgumentParser) -> None:
    path = default_store(os.environ)
    shown = path.replace("%", "%%")
    parser.add_argument("target", metavar="NEW", type=file_path, help="the store to make; it must not be there yet")
    parser.add_argument(
        "--store",
        metavar="PATH",
        type=file_path,
        default=Path(path),
        help=f"the damaged database file (default: {shown})",
    )
    add_json_argument(parser)


def _run(args: argparse.Namespace) -> int:
    # The memory's modules cost their time only where they are used.
    from dreamsvc import upkeep

    with output.bar("salvaging") as tell:
        made = upkeep.salvage(args.store.expanduser(), args.target, tell)
    if args.json:
        print(json.dumps({**made._asdict(), "store": str(made.store)}, ensure_ascii=False))
        return EXIT_OK
    output.print_text(
        f"{made.store}: {counted(made.memories, 'memory', 'memories')}, {counted(made.edges, 'edge', 'edges')}; the"
        " doctor finds nothing wrong"
    )
    if made.unvouched:
        output.print_text(
            f"{made.unvouched:,} of {made.pages:,} pages had no checksum that fits: what they hold was taken as it is"
        )
    if made.log:
        output.print_text(f"the log beside it was taken up to where it is damaged: {made.log}")
    output.print_text(f"to go on with it: dreamsvc serve --store {made.store}; the damaged store was only read")
    return EXIT_OK


COMMANDS = {
    "salvage": Command(
        description=(
            "For a store that is damaged, when no backup is as new: copies all that can still be read into a store of\n"
            "its own, with checksums made anew, and keeps it only if the doctor finds nothing wrong with it. The\n"
            "damaged store is only read; stop its service first."
        ),
        examples="""
            salvage salvaged.db
            salvage /mnt/disk/salvaged.db --store ./memory.db --json
        """,
        add_arguments=_arguments,
        run=explaining(_run),
    ),
}
