"""The command `dreamsvc`: finds the command's file, imports nothing else."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from dreamsvc import __version__
from dreamsvc.cli.command import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, Command, parser_for


class Entry(NamedTuple):
    # The file in dreamsvc/cli that holds the command.
    module: str
    summary: str


ENTRIES = {
    "serve": Entry("serve", "start the service"),
    "dream": Entry("dream", "start a dream, or go on with an interrupted one"),
    "abort": Entry("dream", "wake a space"),
    "revert": Entry("dream", "take a dream back"),
    "dreams": Entry("history", "list the nights, show one, or how they went over time"),
    "estimate": Entry("proposals", "what a dream would touch and take"),
    "diff": Entry("proposals", "every edit of a dream, to read"),
    "approve": Entry("proposals", "apply a dream that waits"),
    "reject": Entry("proposals", "give a dream up that waits"),
    "blindspot": Entry("blindspot", "what REM found: list, accept or reject it"),
    "generate": Entry("generate", "dream from a prompt, and change nothing"),
    "simulate": Entry("generate", "dream over the memories of a file, and keep nothing"),
    "draw": Entry("draw", "a night as a picture"),
    "status": Entry("status", "what the service does now, and why it does not dream"),
    "health": Entry("health", "what of the service does its work"),
    "stats": Entry("status", "what a space holds"),
    "recall": Entry("recall", "find memories"),
    "feedback": Entry("blindspot", "say which memories of a recall helped"),
    "remember": Entry("memories", "store one memory"),
    "memories": Entry("memories", "list memories, also forgotten ones"),
    "get": Entry("memories", "show one memory and its edges"),
    "forget": Entry("memories", "hide memories"),
    "restore": Entry("backup", "bring forgotten memories back, or a whole store from a backup"),
    "unmerge": Entry("memories", "take apart what dreams merged"),
    "import": Entry("transfer", "read a file of memories"),
    "export": Entry("transfer", "write a space to a file"),
    "backup": Entry("backup", "copy the store while it is served, check or list such copies"),
    "config": Entry("config", "check, show or list the configuration"),
    "token": Entry("token", "who may call: make, list and revoke bearer tokens"),
    "mcp": Entry("mcp", "tools for agents over the Model Context Protocol"),
    "errors": Entry("errors", "look an error up: when it comes, what to do"),
    "doctor": Entry("doctor", "check a store, also while it is served, and say how to mend it"),
    "salvage": Entry("salvage", "make a sound store of what a damaged one still holds"),
    "dreamer": Entry("serve", "the process that dreams (serve starts it)"),
}

USAGE = "usage: dreamsvc COMMAND [options]"


def main(argv: Sequence[str] | None = None) -> int:
    # Read by gRPC when it is used first: it would write a line for every handshake that fails, of which we tell.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["-V"]):
        print(f"dreamsvc {__version__}")
        return EXIT_OK
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return EXIT_OK if arguments else EXIT_USAGE
    name, *rest = arguments
    if name not in ENTRIES:
        what = f"options stand after the command: {name}" if name.startswith("-") else f"there is no command {name}"
        print(f"dreamsvc: {what}\n{USAGE}; dreamsvc --help lists the commands", file=sys.stderr)
        return EXIT_USAGE
    commands: dict[str, Command] = import_module(f"dreamsvc.cli.{ENTRIES[name].module}").COMMANDS
    return _run(name, commands[name], rest)


def _run(name: str, command: Command, arguments: list[str]) -> int:
    try:
        args = parser_for(name, command).parse_args(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_USAGE
    try:
        return command.run(args)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away, as in `dreamsvc export - | head`; Python's exit must not write again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _overview() -> str:
    lines = [f"  {name:<10}{entry.summary}" for name, entry in ENTRIES.items()]
    return "\n".join(
        [
            USAGE,
            "",
            "Sleep for an AI agent's long-term memory.",
            "",
            *lines,
            "",
            "dreamsvc COMMAND --help tells the options, with examples. Every command takes --json.",
            "The server is 127.0.0.1:50051 unless --server or DREAMSVC_SERVER says otherwise.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
