"""`dreamsvc config`: checks, shows and lists the configuration, and has a running service read it again."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dreamsvc_client import Client, DreamsvcCallError

from dreamsvc import config, json_messages
from dreamsvc.cli import output
from dreamsvc.cli.call import calling
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, Command, add_json_argument, add_server_arguments
from dreamsvc.cli.config_text import to_toml
from dreamsvc.cli.problems import print_dreamsvc_error, print_problem
from dreamsvc.cli.serve import add_source_arguments, sources_of
from dreamsvc.contract import get, keys
from dreamsvc.errors import InvalidFields
from dreamsvc.v1.admin_pb2 import ConfigOrigin, ConfigReload, ConfigSource
from dreamsvc.v1.config_pb2 import Config


def _arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="check|show|defaults|reload")
    check = verbs.add_parser("check", help="say what is wrong with a file", description="Checks a file.")
    check.add_argument("file", metavar="FILE", type=Path)
    add_json_argument(check)
    show = verbs.add_parser(
        "show",
        help="the configuration in force",
        description="What `serve` with the same options would run with; with --server, what a service runs with.",
        conflict_handler="resolve",
    )
    add_source_arguments(show)
    show.add_argument("--origin", action="store_true", help="also where each value comes from")
    add_server_arguments(show)
    show.add_argument(
        "--server",
        metavar="HOST:PORT",
        nargs="?",
        const=show.get_default("server"),
        help="ask a running service (default: the one that all commands call)",
    )
    show.set_defaults(server=None)
    defaults = verbs.add_parser("defaults", help="every key, default and range", description="All keys, as TOML.")
    add_json_argument(defaults)
    reload = verbs.add_parser(
        "reload",
        help="have a running service read its configuration again",
        description="Has a running service read its configuration again; where anything is wrong, nothing changes.",
    )
    reload.add_argument("--dry-run", action="store_true", help="only say what would change")
    add_server_arguments(reload)


def _run(args: argparse.Namespace) -> int:
    match args.verb:
        case "reload":
            return calling(_reload)(args)
        case "show" if args.server is not None:
            return calling(_show_running)(args)
        case "show":
            return _unless_wrong(_show, args)
        case "check":
            return _unless_wrong(_check, args)
        case _:
            _print_config(config.defaults(), {}, args, with_origins=False)
            return EXIT_OK


def _unless_wrong(run: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    try:
        run(args)
    except InvalidFields as error:
        print_dreamsvc_error(error, as_json=args.json)
        return EXIT_FAILED
    return EXIT_OK


def _check(args: argparse.Namespace) -> None:
    config.load(args.file)
    print(json.dumps({"ok": True}) if args.json else f"{args.file}: ok")


def _show(args: argparse.Namespace) -> None:
    read = sources_of(args).read()
    _print_config(read.config, _by_path(read.origins), args, with_origins=args.origin)


def _show_running(client: Client, args: argparse.Namespace) -> int:
    answer = client.config()
    if not args.json:
        print(f"# of the service at {args.server}; file: {output.plain(answer.file) or 'none'}")
        if answer.HasField("last_reload"):
            print("\n".join(f"# {line}" for line in _reload_lines(answer.last_reload)))
    _print_config(answer.config, _by_path(answer.origins), args, with_origins=args.origin)
    return EXIT_OK


def _by_path(origins: Iterable[ConfigOrigin]) -> dict[str, ConfigOrigin]:
    return {origin.path: origin for origin in origins}


def _print_config(
    found: Config, origins: Mapping[str, ConfigOrigin], args: argparse.Namespace, *, with_origins: bool
) -> None:
    if not args.json:
        print(to_toml(found, origins=origins if with_origins else None), end="")
    elif with_origins:
        print(json.dumps({path: _with_origin(found, origins, path) for path in keys(Config.DESCRIPTOR)}))
    else:
        print(json.dumps(json_messages.write(found)))


def _with_origin(found: Config, origins: Mapping[str, ConfigOrigin], path: str) -> dict[str, object]:
    field, value = keys(Config.DESCRIPTOR)[path], get(found, path)
    if field.is_repeated:
        value = [item if field.message_type is None else json_messages.write(item) for item in value]
    origin = origins.get(path, ConfigOrigin(source=ConfigSource.CONFIG_SOURCE_DEFAULT))
    return {
        "value": value,
        "source": output.word(ConfigSource, origin.source, "CONFIG_SOURCE_").replace(" ", "_"),
        "name": origin.name,
    }


def _reload(client: Client, args: argparse.Namespace) -> int:
    try:
        found = client.reload_config(validate_only=args.dry_run).reload
    except DreamsvcCallError as error:
        if error.reason != "INVALID_FIELD" or args.dry_run:
            raise
        # An error has no room for many mistakes; the service remembers all of them.
        problems = client.config().last_reload.problems
        print_problem(
            error.message,
            as_json=args.json,
            reason=error.reason,
            violations=[(problem.path, problem.message) for problem in problems],
            hint="Nothing was changed. Correct what is listed, and reload again.",
            trace_id=error.trace_id,
        )
        return EXIT_FAILED
    if args.json:
        output.print_json(found)
    else:
        print("\n".join(_reload_lines(found)))
    return EXIT_OK


def _reload_lines(found: ConfigReload) -> list[str]:
    when = output.time_text(found.time)
    if not found.ok:
        told = [f"  {output.plain(problem.path)}: {output.plain(problem.message)}" for problem in found.problems]
        return [f"rejected {when}, and nothing changed:", *told]
    lines = [f"read {when}; changed: {', '.join(found.changed) or 'nothing'}"]
    if found.needs_restart:
        lines.append(f"waits for a restart: {', '.join(found.needs_restart)}")
    return lines


COMMANDS = {
    "config": Command(
        description=(
            "Checks a configuration file, shows what is in force and where it comes from, lists every key, or has a "
            "running service read it again. A variable such as DREAMSVC_DREAM__NREM__BATCH_SIZE overrules "
            "dream.nrem.batch_size of the file."
        ),
        examples="""
            config defaults > dreamsvc.toml
            config check dreamsvc.toml
            config show --config dreamsvc.toml --origin
            config show --server
            config reload
        """,
        add_arguments=_arguments,
        run=_run,
    ),
}
