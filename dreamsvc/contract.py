"""Reads the `(rule)` of each field back: defaults filled in, values checked, wrong fields named by path."""

import math
import re
from functools import cache
from typing import Any, NamedTuple

from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from dreamsvc.errors import InvalidFields, Violation
from dreamsvc.v1 import options_pb2

_FLOATS = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
# Types of which any value is good where no rule says otherwise.
_FREE = {
    FieldDescriptor.TYPE_STRING,
    FieldDescriptor.TYPE_BYTES,
    FieldDescriptor.TYPE_BOOL,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_INT32,
}
# Messages of the protobuf library that have their own checks and no rules inside.
_OPAQUE = {
    struct_pb2.Struct.DESCRIPTOR.full_name,
    timestamp_pb2.Timestamp.DESCRIPTOR.full_name,
    duration_pb2.Duration.DESCRIPTOR.full_name,
}


class _Limits(NamedTuple):
    """A rule as plain values, which are read much faster than a message."""

    least: float | None
    most: float | None
    unit: str
    # Bytes of a text, items of a list.
    largest: int | None
    one_of: tuple[str, ...]
    pattern: re.Pattern[str] | None


_NO_LIMITS = _Limits(None, None, "", None, (), None)


def _limits(rule: options_pb2.Rule) -> _Limits:
    return _Limits(
        least=rule.min if rule.HasField("min") else None,
        most=rule.max if rule.HasField("max") else None,
        unit=f" {rule.unit}" if rule.unit else "",
        largest=rule.max_size if rule.HasField("max_size") else None,
        one_of=tuple(rule.one_of),
        pattern=re.compile(rule.pattern) if rule.pattern else None,
    )


class _Plan(NamedTuple):
    """What there is to do for one kind of message, worked out once: an import checks millions of fields."""

    # Name, value, and whether the field knows that it was not set.
    defaults: tuple[tuple[str, Any, bool], ...]
    required: frozenset[str]
    # Names of fields that hold messages of ours, and whether they hold a list of them.
    nested: tuple[tuple[str, bool], ...]
    limits: dict[str, _Limits]


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    rules = {
        field.name: field.GetOptions().Extensions[options_pb2.rule]
        for field in descriptor.fields
        if field.GetOptions().HasExtension(options_pb2.rule)
    }
    single = {field.name: field for field in descriptor.fields if not field.is_repeated}
    defaults = ((name, default_of(single[name], rule)) for name, rule in rules.items() if name in single)
    return _Plan(
        defaults=tuple((name, value, single[name].has_presence) for name, value in defaults if value is not None),
        required=frozenset(name for name, rule in rules.items() if rule.required),
        nested=tuple(
            (field.name, field.is_repeated)
            for field in descriptor.fields
            if field.message_type is not None and not _is_opaque(field)
        ),
        limits={name: _limits(rule) for name, rule in rules.items()},
    )


def _is_opaque(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name in _OPAQUE


def fill(message: Message) -> None:
    """Gives every unset field of a message and of the messages in it its default, in place."""
    plan = _plan(message.DESCRIPTOR)
    for name, value, knows in plan.defaults:
        if not (message.HasField(name) if knows else getattr(message, name)):
            setattr(message, name, value)
    for name, repeated in plan.nested:
        if repeated:
            for item in getattr(message, name):
                fill(item)
        elif message.HasField(name):
            fill(getattr(message, name))


def fill_deep(message: Message) -> None:
    """Like `fill`, and makes the messages that are absent: for a configuration, where every table has defaults."""
    for field in message.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE and not field.is_repeated:
            part: Message = getattr(message, field.name)
            part.SetInParent()
            fill_deep(part)
    fill(message)


@cache
def keys(descriptor: Descriptor, prefix: str = "") -> dict[str, FieldDescriptor]:
    """Every key of a configuration by its path, e.g. dream.nrem.batch_size, in the order of the proto.

    A list of tables is one key.
    """
    found: dict[str, FieldDescriptor] = {}
    for field in descriptor.fields:
        if field.message_type is None or field.is_repeated:
            found[f"{prefix}{field.name}"] = field
        else:
            found |= keys(field.message_type, f"{prefix}{field.name}.")
    return found


def needs_restart(field: FieldDescriptor) -> bool:
    """Whether a change of a key takes effect at the next start only."""
    return field.GetOptions().Extensions[options_pb2.rule].restart


def range_text(field: FieldDescriptor) -> str:
    """E.g. "from 1 to 4096"; a rule's range for people."""
    rule: options_pb2.Rule = field.GetOptions().Extensions[options_pb2.rule]
    return f"from {rule.min:.15g} to {rule.max:.15g}"


def get(message: Message, path: str) -> Any:
    """The value of a key."""
    part, name = _part_of(message, path)
    return getattr(part, name)


def put(message: Message, path: str, value: Any) -> None:
    """Sets a key, a list as a whole; raises ValueError or TypeError where the value cannot be one of it."""
    part, name = _part_of(message, path)
    if part.DESCRIPTOR.fields_by_name[name].is_repeated:
        # Made first: it may be the very list.
        items = list(value)
        del getattr(part, name)[:]
        getattr(part, name).extend(items)
    else:
        setattr(part, name, value)


def _part_of(message: Message, path: str) -> tuple[Any, str]:
    """The message that holds a key, and the key's name there."""
    *tables, name = path.split(".")
    for table in tables:
        message = getattr(message, table)
    return message, name


def default_of(field: FieldDescriptor, rule: options_pb2.Rule) -> Any:
    """What an unset field holds, in the field's own type; None where the rule names nothing."""
    if rule.HasField("default_text"):
        return rule.default_text
    if rule.HasField("default_flag"):
        return rule.default_flag
    if rule.HasField("default"):
        return rule.default if field.type in _FLOATS else int(rule.default)
    return None


def check(message: Message) -> None:
    """Raises InvalidFields naming every field that breaks its rule; NaN and infinity break all."""
    violations = list(_violations(message, ""))
    if violations:
        raise InvalidFields(violations)


def _violations(message: Message, prefix: str) -> list[Violation]:
    plan = _plan(message.DESCRIPTOR)
    found = [
        Violation(f"{prefix}{name}", "is required") for name in sorted(plan.required) if not getattr(message, name)
    ]
    for field, value in message.ListFields():
        name = field.name
        limits = plan.limits.get(name, _NO_LIMITS)
        if limits is _NO_LIMITS and field.type in _FREE:
            continue
        if field.is_repeated:
            found += _list_violations(field, limits, f"{prefix}{name}", value)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            found += _message_violations(limits, f"{prefix}{name}", value)
        elif name not in plan.required or value:
            found += _scalar_violations(field, limits, f"{prefix}{name}", value)
    return found


def _list_violations(field: FieldDescriptor, limits: _Limits, path: str, items: Any) -> list[Violation]:
    if limits.largest is not None and len(items) > limits.largest:
        return [Violation(path, f"has {len(items)} items; at most {limits.largest} are allowed")]
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if _is_opaque(field):
            return []
        return [violation for i, item in enumerate(items) for violation in _violations(item, f"{path}[{i}].")]
    if field.type in _FLOATS:
        # The first one is enough to find the mistake, and a vector has hundreds.
        bad = next((i for i, item in enumerate(items) if not math.isfinite(item)), None)
        return [] if bad is None else [Violation(f"{path}[{bad}]", f"is {items[bad]}; must be finite")]
    if field.type == FieldDescriptor.TYPE_ENUM:
        return [
            violation for i, item in enumerate(items) for violation in _enum_violations(field, f"{path}[{i}]", item)
        ]
    return []


def _message_violations(limits: _Limits, path: str, value: Message) -> list[Violation]:
    if isinstance(value, duration_pb2.Duration):
        return _range_violations(limits, path, value.seconds + value.nanos / 1e9)
    if isinstance(value, timestamp_pb2.Timestamp):
        try:
            value.ToDatetime()
        except (ValueError, OverflowError):
            return [Violation(path, "is outside the years 1 to 9999")]
        return []
    if isinstance(value, struct_pb2.Struct):
        return []
    return _violations(value, f"{path}.")


def _scalar_violations(field: FieldDescriptor, limits: _Limits, path: str, value: Any) -> list[Violation]:
    if field.type in _FLOATS and not math.isfinite(value):
        return [Violation(path, f"is {value}; must be finite")]
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum_violations(field, path, value)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text_violations(limits, path, value)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return []
    return _range_violations(limits, path, value)


def _enum_violations(field: FieldDescriptor, path: str, value: int) -> list[Violation]:
    kind = field.enum_type
    if kind is None or value in kind.values_by_number:
        return []
    return [Violation(path, f"is {value}, which is no {kind.name}")]


def _range_violations(limits: _Limits, path: str, value: float) -> list[Violation]:
    if limits.least is not None and value < limits.least:
        return [Violation(path, f"is {value:g}{limits.unit}; must be at least {limits.least:g}{limits.unit}")]
    if limits.most is not None and value > limits.most:
        return [Violation(path, f"is {value:g}{limits.unit}; must be at most {limits.most:g}{limits.unit}")]
    if limits.one_of and f"{value:g}" not in limits.one_of:
        return [Violation(path, f"is {value:g}{limits.unit}; must be one of {', '.join(limits.one_of)}")]
    return []


def _text_violations(limits: _Limits, path: str, value: str) -> list[Violation]:
    if limits.largest is not None and (size := _size(value)) > limits.largest:
        return [Violation(path, f"has {size} bytes; at most {limits.largest} are allowed")]
    if limits.one_of and value not in limits.one_of:
        return [Violation(path, f'is "{value[:80]}"; must be one of {", ".join(limits.one_of)}')]
    if limits.pattern is not None and not limits.pattern.fullmatch(value):
        return [Violation(path, f'is "{value[:80]}"; must match {limits.pattern.pattern}')]
    return []


def _size(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())
