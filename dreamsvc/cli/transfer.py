"""`dreamsvc import` and `export`."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from dreamsvc_client import Client, detect_format, files
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from dreamsvc.cli import output
from dreamsvc.cli.call import calling
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, Command, add_call_arguments
from dreamsvc.cli.command import path as file_path
from dreamsvc.cli.problems import explaining
from dreamsvc.v1.memory_pb2 import (
    IMPORT_FORMAT_DREAMSVC_JSONL,
    IMPORT_FORMAT_MCP_MEMORY,
    IMPORT_FORMAT_UNSPECIFIED,
    ImportReport,
)
from dreamsvc.v1.memory_service_pb2 import ExportSummary

FORMATS = {
    "auto": IMPORT_FORMAT_UNSPECIFIED,
    "dreamsvc": IMPORT_FORMAT_DREAMSVC_JSONL,
    "mcp": IMPORT_FORMAT_MCP_MEMORY,
}


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=file_path, help="JSON lines, plain or gzip")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="auto",
        help="dreamsvc: as export writes; mcp: memory.jsonl of the MCP memory server (default: told by the first line)",
    )
    parser.add_argument("--dry-run", action="store_true", help="read and report, write nothing")
    parser.add_argument("--skip-malformed", action="store_true", help="import the good lines although some are not")
    add_call_arguments(parser)


def _import(client: Client, args: argparse.Namespace) -> int:
    format_number = FORMATS[args.format] or detect_format(args.file)
    with _progress() as progress:
        task = progress.add_task("sending", total=None)

        def advance(sent: int, total: int) -> None:
            # The server checks and stores the whole file once it has all of it.
            progress.update(task, completed=sent, total=total, description="storing" if sent == total else "sending")

        report = client.import_file(
            args.file,
            args.space,
            format=format_number,
            dry_run=args.dry_run,
            skip_malformed=args.skip_malformed,
            progress=advance,
        )
    if args.json:
        output.print_json(report)
    else:
        _print_report(report)
    return EXIT_FAILED if report.dry_run and report.malformed and not args.skip_malformed else EXIT_OK


def _print_report(report: ImportReport) -> None:
    output.print_pairs(
        [
            ("", "dry run: nothing was written" if report.dry_run else ""),
            ("lines", f"{report.lines}, {report.malformed} malformed"),
            ("memories", f"{report.memories_created} created, {report.memories_unchanged} unchanged"),
            ("edges", f"{report.edges_created} created, {report.edges_unchanged} unchanged"),
            ("to embed", f"{report.to_embed}" if report.to_embed else ""),
            ("time", output.seconds_text(report.seconds)),
        ]
    )
    for line in report.malformed_lines:
        output.print_text(f"  line {line.line}: {line.reason}")
    if report.malformed > len(report.malformed_lines):
        print(f"  and {report.malformed - len(report.malformed_lines)} more")


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="- is standard output; a name that ends in .gz gets gzip")
    parser.add_argument(
        "--from",
        metavar="PATH",
        type=file_path,
        dest="source",
        help="read a backup or a store's file instead of a server",
    )
    add_call_arguments(parser)


def _export(args: argparse.Namespace) -> int:
    return calling(_export_served)(args) if args.source is None else explaining(_export_file)(args)


def _export_file(args: argparse.Namespace) -> int:
    # The memory's modules cost their time only where they are used.
    from dreamsvc import upkeep

    summary = ExportSummary()

    def content() -> Iterator[bytes]:
        for part in upkeep.export_from(args.source, args.space):
            if isinstance(part, bytes):
                yield part
            else:
                summary.CopyFrom(part)

    if args.file == "-":
        files.copy(sys.stdout.buffer, content(), lambda _: None)
    else:
        files.write(Path(args.file), content(), lambda _: None)
    print(_summary_text(summary, args), file=sys.stderr if args.file == "-" else sys.stdout)
    return EXIT_OK


def _export_served(client: Client, args: argparse.Namespace) -> int:
    if args.file == "-":
        summary = client.export_to(sys.stdout.buffer, args.space)
        # Standard output holds the memories.
        print(_summary_text(summary, args), file=sys.stderr)
        return EXIT_OK
    with _progress() as progress:
        task = progress.add_task("receiving", total=None)
        summary = client.export_to(
            Path(args.file), args.space, progress=lambda received: progress.update(task, completed=received)
        )
    print(_summary_text(summary, args))
    return EXIT_OK


def _summary_text(summary: ExportSummary, args: argparse.Namespace) -> str:
    if args.json:
        return output.json_text(summary)
    return f"{summary.memories} memories, {summary.edges} edges; SHA-256 {summary.digest}"


def _progress() -> Progress:
    """A bar over bytes on standard error; nothing where that is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        console=output.console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


COMMANDS = {
    "import": Command(
        description=(
            "Reads a file of memories: all of it, or nothing. The same file again changes nothing.\n\n"
            "One JSON object a line; all but type and key (or id) may be left out:\n"
            '  {"type": "memory", "key": "tea", "kind": "fact", "title": "Tea", "text": "She likes green tea.",\n'
            '   "event_time": "2026-03-01T12:00:00Z", "importance": 0.7, "aliases": ["chai"],\n'
            '   "metadata": {"session": "chat-7", "entities": ["Ada"]}}\n'
            '  {"type": "edge", "source": "tea", "target": "cup", "edge_type": "NEEDS", "weight": 0.6}\n'
            "Facts and both keys of the metadata help dreams; an edge may name memories that are stored."
        ),
        examples="""
            import memory.jsonl
            import memory.jsonl.gz --dry-run
            import ~/.mcp/memory.jsonl --format mcp --skip-malformed
        """,
        add_arguments=_import_arguments,
        run=calling(_import),
        exit_codes="exit codes: 0 done, 1 failed (a dry run: it would fail), 2 wrong usage, 130 interrupted",
    ),
    "export": Command(
        description=(
            "Writes a space as JSON lines that import reads back to an equal digest. With --from it needs no server:\n"
            "so a single space of a backup comes back into a service that goes on, by import."
        ),
        examples="""
            export memory.jsonl
            export backup.jsonl.gz
            export - | wc -l
            export before.jsonl --from backups/memory.db-20260301T120000Z --space work
        """,
        add_arguments=_export_arguments,
        run=_export,
    ),
}
