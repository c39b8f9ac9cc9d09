"""`dreamsvc config`: checks, shows and lists the configuration, without a server."""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from dreamsvc import config, contract
from dreamsvc.cli.command import EXIT_FAILED, EXIT_OK, Command, add_json_argument
from dreamsvc.cli.problems import print_dreamsvc_error
from dreamsvc.errors import InvalidFields
from dreamsvc.v1 import options_pb2
from dreamsvc.v1.config_pb2 import Config


def to_toml(message: Message, table: str = "") -> str:
    """A configuration as TOML that reads back equal; above each key its default, range and unit."""
    return "\n".join(_lines(message, table)).strip() + "\n"


def _lines(message: Message, table: str) -> Iterator[str]:
    fields = cast(Descriptor, message.DESCRIPTOR).fields
    scalars = [field for field in fields if field.type != FieldDescriptor.TYPE_MESSAGE]
    if scalars:
        yield from ("", f"[{table}]")
    for field in scalars:
        yield f"# {_comment(field)}"
        yield f"{field.name} = {_value(getattr(message, field.name))}"
    for field in fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            yield from _lines(getattr(message, field.name), f"{table}.{field.name}" if table else field.name)


def _comment(field: FieldDescriptor) -> str:
    """E.g. "default 3 min; 0.001 to 30"."""
    rule: options_pb2.Rule = field.GetOptions().Extensions[options_pb2.rule]
    default: Any = () if field.is_repeated else contract.default_of(field, rule)
    shown = f"{default:.15g}" if isinstance(default, float) else _value(default)
    parts = [f"default {shown}{f' {rule.unit}' if rule.unit else ''}"]
    if rule.HasField("min") and rule.HasField("max"):
        parts.append(f"{rule.min:.15g} to {rule.max:.15g}")
    if rule.one_of:
        parts.append("one of " + ", ".join(rule.one_of))
    return "; ".join(parts)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            # TOML's basic strings take JSON's escapes, and forbid one character more.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
        case Sequence():
            return f"[{', '.join(_value(item) for item in cast(Sequence[Any], value))}]"
        case _:
            return repr(value)


def _arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="check|show|defaults")
    check = verbs.add_parser("check", help="say what is wrong with a file", description="Checks a file.")
    check.add_argument("file", metavar="FILE", type=Path)
    show = verbs.add_parser("show", help="the configuration in force", description="A file with all defaults in.")
    show.add_argument("--config", dest="file", metavar="FILE", type=Path)
    defaults = verbs.add_parser("defaults", help="every key, default and range", description="All keys, as TOML.")
    for verb in (check, show, defaults):
        add_json_argument(verb)


def _run(args: argparse.Namespace) -> int:
    try:
        settings: Config = config.defaults() if args.verb == "defaults" else config.load(args.file)
    except InvalidFields as error:
        print_dreamsvc_error(error, as_json=args.json)
        return EXIT_FAILED
    if args.verb == "check":
        print(json.dumps({"ok": True}) if args.json else f"{args.file}: ok")
    elif args.json:
        print(json.dumps(json_format.MessageToDict(settings, preserving_proto_field_name=True)))
    else:
        print(to_toml(settings), end="")
    return EXIT_OK


COMMANDS = {
    "config": Command(
        description="Checks a configuration file, shows what is in force, or lists every key. Needs no server.",
        examples="""
            config defaults > dreamsvc.toml
            config check dreamsvc.toml
            config show --config dreamsvc.toml
        """,
        add_arguments=_arguments,
        run=_run,
    ),
}
