"""A configuration as TOML, and where its values come from."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from dreamsvc import contract
from dreamsvc.cli import output
from dreamsvc.v1 import options_pb2
from dreamsvc.v1.admin_pb2 import ConfigOrigin, ConfigSource

type Origins = Mapping[str, ConfigOrigin]


def to_toml(message: Message, table: str = "", origins: Origins | None = None) -> str:
    """A configuration as TOML that reads back equal; above each key its default, range and unit.

    origins: of the keys that are told anywhere, by their paths; behind each key it then says where it comes from.
    """
    return "\n".join(_lines(message, table, origins)).strip() + "\n"


def origin_text(origins: Origins, path: str) -> str:
    """E.g. "environment: DREAMSVC_SERVER__PORT"."""
    if path not in origins:
        return "default"
    found = origins[path]
    return f"{output.word(ConfigSource, found.source, 'CONFIG_SOURCE_')}: {output.plain(found.name)}"


def _lines(message: Message, table: str, origins: Origins | None) -> Iterator[str]:
    fields = cast(Descriptor, message.DESCRIPTOR).fields
    scalars = [field for field in fields if field.type != FieldDescriptor.TYPE_MESSAGE]
    if scalars:
        yield from ("", f"[{table}]")
    for field in scalars:
        yield f"# {_comment(field)}"
        behind = "" if origins is None else f"  # {origin_text(origins, f'{table}.{field.name}')}"
        yield f"{field.name} = {_value(getattr(message, field.name))}{behind}"
    for field in fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = f"{table}.{field.name}" if table else field.name
            if field.is_repeated:
                yield from _tables(field, getattr(message, field.name), inner, origins)
            else:
                yield from _lines(getattr(message, field.name), inner, origins)


def _tables(field: FieldDescriptor, items: Sequence[Message], path: str, origins: Origins | None) -> Iterator[str]:
    """A list of tables, in each the keys that it sets; its keys alone where there is none."""
    names = ", ".join(key.name for key in cast(Descriptor, field.message_type).fields)
    behind = "" if origins is None else f"  # {origin_text(origins, path)}"
    yield from ("", f"# [[{path}]] as often as wanted, each with any of: {names}")
    for item in items:
        yield from ("", f"[[{path}]]{behind}")
        yield from (f"{key.name} = {_value(value)}" for key, value in item.ListFields())


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
    if rule.restart:
        parts.append("changed by a restart only")
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
