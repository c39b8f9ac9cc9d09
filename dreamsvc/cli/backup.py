"""`dreamsvc backup` and `restore`: of a store's file, and the other restore, of forgotten memories."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dreamsvc_client import Client

from dreamsvc import clock
from dreamsvc.cli import output
from dreamsvc.cli.call import calling
from dreamsvc.cli.command import (
    EXIT_OK,
    EXIT_USAGE,
    Command,
    add_call_arguments,
    add_json_argument,
    count,
)
from dreamsvc.cli.command import path as file_path
from dreamsvc.cli.output import bytes_text, counted
from dreamsvc.cli.problems import explaining, print_problem
from dreamsvc.config_sources import default_store

if TYPE_CHECKING:
    from dreamsvc.upkeep import Manifest

# What makes a directory a backup.
_MANIFEST = "manifest.json"


def _backup_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        type=file_path,
        help="a directory that is not there yet (default: backups/NAME-TIME beside the store); with --list: where"
        " backups lie",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", metavar="BACKUP", type=file_path, help="read all of a backup, and make none")
    what.add_argument("--list", action="store_true", help="show the backups there are, and make none")
    what.add_argument(
        "--keep", metavar="N", type=count, help="then remove the oldest of this store beside it, so that N are left"
    )
    _add_store_argument(parser)
    add_json_argument(parser)


def _add_store_argument(parser: argparse.ArgumentParser) -> None:
    path = default_store(os.environ)
    shown = path.replace("%", "%%")
    parser.add_argument("--store", metavar="PATH", type=file_path, help=f"the database file (default: {shown})")


def _store_of(args: argparse.Namespace) -> Path:
    return (args.store or Path(default_store(os.environ))).expanduser()


def _backup(args: argparse.Namespace) -> int:
    if args.keep == 0:
        print_problem("--keep 0 would leave no backup", as_json=args.json, hint="keep at least 1")
        return EXIT_USAGE
    if args.check is not None:
        if args.target is not None:
            print_problem("--check makes no backup: there is no TARGET for it", as_json=args.json)
            return EXIT_USAGE
        return _check(args)
    return _list(args) if args.list else _make(args)


def _make(args: argparse.Namespace) -> int:
    # The memory's modules cost their time only where they are used.
    from dreamsvc import upkeep

    with output.bar("backing up") as tell:
        path, made = upkeep.make_backup(_store_of(args), args.target, tell)
    dropped = upkeep.drop_older_backups(path, args.keep) if args.keep else []
    if args.json:
        named = [str(older) for older in dropped]
        print(json.dumps({"backup": str(path), **upkeep.describe_backup(made), "removed": named}, ensure_ascii=False))
        return EXIT_OK
    output.print_text(f"{path}: {_summary(made)}; verified")
    for older in dropped:
        output.print_text(f"removed {older}")
    return EXIT_OK


def _check(args: argparse.Namespace) -> int:
    from dreamsvc import upkeep

    with output.bar("checking") as tell:
        made = upkeep.check_backup(args.check, tell)
    if args.json:
        print(json.dumps({"backup": str(args.check), **upkeep.describe_backup(made)}, ensure_ascii=False))
    else:
        output.print_text(f"{args.check} is whole: {_summary(made)}, of {_when(made)}")
    return EXIT_OK


def _list(args: argparse.Namespace) -> int:
    from dreamsvc import upkeep

    found = upkeep.list_backups(_store_of(args), args.target)
    if args.json:
        told = [
            {"backup": str(one.path), "problem": one.problem}
            | (upkeep.describe_backup(one.manifest) if one.manifest else {})
            for one in found
        ]
        print(json.dumps({"backups": told}, ensure_ascii=False))
        return EXIT_OK
    if not found:
        print("no backups")
        return EXIT_OK
    listed = output.table("backup", "made", ">change", ">memories", ">edges", ">size")
    for one in found:
        if one.manifest is not None:
            made = one.manifest
            numbers = (f"{made.content.change_seq:,}", f"{made.memories:,}", f"{made.edges:,}", bytes_text(made.bytes))
            listed.add_row(output.plain(one.path.name), _when(made), *numbers)
    output.print_text(f"in {found[0].path.parent}")
    if listed.row_count:
        output.console().print(listed)
    for one in found:
        if one.problem:
            output.print_text(one.problem)
    return EXIT_OK


def _summary(made: "Manifest") -> str:
    what = f"{counted(made.memories, 'memory', 'memories')}, {counted(made.edges, 'edge', 'edges')}"
    if made.is_older:
        what = f"a store of an older dreamsvc (schema {made.content.schema})"
    return f"{what}, {bytes_text(made.bytes)}, change {made.content.change_seq:,}"


def _when(made: "Manifest") -> str:
    return clock.iso(made.made_us)[:19].replace("T", " ") + "Z"


def _restore_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", metavar="MEMORY", nargs="*", help="ids or keys of forgotten memories")
    parser.add_argument(
        "--backup", metavar="BACKUP", type=file_path, help="put this backup in the place of a whole store instead"
    )
    _add_store_argument(parser)
    add_call_arguments(parser)


def _restore(args: argparse.Namespace) -> int:
    wrong = _mixed_up(args)
    if wrong:
        print_problem(wrong[0], as_json=args.json, hint=wrong[1])
        return EXIT_USAGE
    return calling(_restore_memories)(args) if args.backup is None else _restore_store(args)


def _mixed_up(args: argparse.Namespace) -> tuple[str, str] | None:
    """What the two ways of this command could be taken for each other by, and what to write instead."""
    if args.backup is None:
        for name in args.ids:
            if Path(name, _MANIFEST).is_file():
                return f"{name} is a backup and no memory", f"dreamsvc restore --backup {name}"
        if args.store is not None:
            return "--store goes with --backup", "forgotten memories are brought back by the server that has them"
        return None if args.ids else ("nothing to restore", "name memories, or a backup with --backup")
    if args.ids:
        return "a backup replaces a whole store: there are no memories to name", "leave out either"
    if args.space != "default":
        return "a backup holds all spaces", "leave out --space; `dreamsvc export` and `import` move a single one"
    return None


def _restore_memories(client: Client, args: argparse.Namespace) -> int:
    answer = client.restore(args.ids, args.space)
    if args.json:
        output.print_json(answer)
    else:
        print(f"restored: {answer.restored}, were there: {answer.unchanged}")
    return EXIT_OK


def _restore_store(args: argparse.Namespace) -> int:
    from dreamsvc import upkeep

    store = _store_of(args)
    if args.store is None:
        source = upkeep.source_of_backup(args.backup)
        if source.resolve() != store.resolve():
            print_problem(
                f"{args.backup} is of {source}, and without --store it would replace {store}",
                as_json=args.json,
                hint="say which store it shall replace with --store PATH",
            )
            return EXIT_USAGE
    with output.bar("restoring") as tell:
        restored = upkeep.restore_backup(args.backup, store, tell)
    made, kept = restored.manifest, restored.kept
    if args.json:
        place = {"store": str(restored.store), "kept": str(kept or "")}
        print(json.dumps({**place, "backup": upkeep.describe_backup(made)}, ensure_ascii=False))
        return EXIT_OK
    output.print_text(f"{restored.store} is again what it was at {_when(made)}: {_summary(made)}")
    if kept is not None:
        output.print_text(f"the store that was there is kept as {kept}; delete it when you need it no longer")
    return EXIT_OK


COMMANDS = {
    "backup": Command(
        description=(
            "Copies a store, beside a running server too, and reads the copy back before it counts: a directory of\n"
            "memory.db and manifest.json. Nobody waits for it. To make one a night, from cron:\n"
            "  0 3 * * *  nice dreamsvc backup --keep 7\n"
            "or from a systemd service with Nice=10, ExecStart=dreamsvc backup --keep 7, and a timer with\n"
            "OnCalendar=03:00. `dreamsvc restore --backup` is the way back."
        ),
        examples="""
            backup
            backup /mnt/disk/before-the-upgrade --store ./memory.db
            backup --keep 7 --json
            backup --check backups/memory.db-20260301T120000Z
            backup --list
        """,
        add_arguments=_backup_arguments,
        run=explaining(_backup),
        exit_codes="exit codes: 0 done, 1 failed (--check: damaged), 2 wrong usage, 130 interrupted",
    ),
    "restore": Command(
        description=(
            "Brings forgotten memories back, with their edges. With --backup: puts a backup in the place of a store\n"
            "that no server has open, and keeps what was there beside it."
        ),
        examples="""
            restore note:42
            restore --backup backups/memory.db-20260301T120000Z
            restore --backup /mnt/disk/before-the-upgrade --store ./memory.db
        """,
        add_arguments=_restore_arguments,
        run=explaining(_restore),
    ),
}
