"""Reads the `(rule)` of each field back: defaults filled in, values checked, wrong fields named by path."""

import math
import re
from functools import cache
from typing import Any

from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from dreamsvc.errors import InvalidFields, Violation
from dreamsvc.v1 import options_pb2

_FLOATS = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
# Messages of the protobuf library that have their own checks and no rules inside.
_OPAQUE = {
    struct_pb2.Struct.DESCRIPTOR.full_name,
    timestamp_pb2.Timestamp.DESCRIPTOR.full_name,
    duration_pb2.Duration.DESCRIPTOR.full_name,
}


@cache
def _rules(descriptor: Descriptor) -> list[tuple[FieldDescriptor, options_pb2.Rule | None]]:
    return [
        (
            field,
            field.GetOptions().Extensions[options_pb2.rule]
            if field.GetOptions().HasExtension(options_pb2.rule)
            else None,
        )
        for field in descriptor.fields
    ]


def _is_opaque(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name in _OPAQUE


def fill(message: Message) -> None:
    """Gives every unset field of a message and of the messages in it its default, in place."""
    for field, rule in _rules(message.DESCRIPTOR):
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if _is_opaque(field):
                continue
            if field.is_repeated:
                for item in getattr(message, field.name):
                    fill(item)
            elif message.HasField(field.name):
                fill(getattr(message, field.name))
        elif rule is not None and not field.is_repeated and not _is_set(message, field):
            default = default_of(field, rule)
            if default is not None:
                setattr(message, field.name, default)


def fill_deep(message: Message) -> None:
    """Like `fill`, and makes the messages that are absent: for a configuration, where every table has defaults."""
    for field in message.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE and not field.is_repeated:
            part: Message = getattr(message, field.name)
            part.SetInParent()
            fill_deep(part)
    fill(message)


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


def _is_set(message: Message, field: FieldDescriptor) -> bool:
    return message.HasField(field.name) if field.has_presence else bool(getattr(message, field.name))


def _violations(message: Message, prefix: str) -> list[Violation]:
    found: list[Violation] = []
    for field, rule in _rules(message.DESCRIPTOR):
        path = f"{prefix}{field.name}"
        value = getattr(message, field.name)
        if rule is not None and rule.required and not value:
            found.append(Violation(path, "is required"))
            continue
        if not field.is_repeated and not _is_set(message, field):
            continue
        if field.is_repeated:
            found += _list_violations(field, rule, path, value)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            found += _message_violations(rule, path, value)
        else:
            found += _scalar_violations(field, rule, path, value)
    return found


def _list_violations(field: FieldDescriptor, rule: options_pb2.Rule | None, path: str, items: Any) -> list[Violation]:
    if rule is not None and rule.HasField("max_size") and len(items) > rule.max_size:
        return [Violation(path, f"has {len(items)} items; at most {rule.max_size} are allowed")]
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


def _message_violations(rule: options_pb2.Rule | None, path: str, value: Message) -> list[Violation]:
    if isinstance(value, duration_pb2.Duration):
        return _range_violations(rule, path, value.seconds + value.nanos / 1e9)
    if isinstance(value, timestamp_pb2.Timestamp):
        try:
            value.ToDatetime()
        except (ValueError, OverflowError):
            return [Violation(path, "is outside the years 1 to 9999")]
        return []
    if isinstance(value, struct_pb2.Struct):
        return []
    return _violations(value, f"{path}.")


def _scalar_violations(field: FieldDescriptor, rule: options_pb2.Rule | None, path: str, value: Any) -> list[Violation]:
    if field.type in _FLOATS and not math.isfinite(value):
        return [Violation(path, f"is {value}; must be finite")]
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum_violations(field, path, value)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text_violations(rule, path, value)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return []
    return _range_violations(rule, path, value)


def _enum_violations(field: FieldDescriptor, path: str, value: int) -> list[Violation]:
    kind = field.enum_type
    if kind is None or value in kind.values_by_number:
        return []
    return [Violation(path, f"is {value}, which is no {kind.name}")]


def _range_violations(rule: options_pb2.Rule | None, path: str, value: float) -> list[Violation]:
    if rule is None:
        return []
    unit = f" {rule.unit}" if rule.unit else ""
    if rule.HasField("min") and value < rule.min:
        return [Violation(path, f"is {value:g}{unit}; must be at least {rule.min:g}{unit}")]
    if rule.HasField("max") and value > rule.max:
        return [Violation(path, f"is {value:g}{unit}; must be at most {rule.max:g}{unit}")]
    return []


def _text_violations(rule: options_pb2.Rule | None, path: str, value: str) -> list[Violation]:
    if rule is None:
        return []
    if rule.HasField("max_size") and len(value.encode()) > rule.max_size:
        return [Violation(path, f"has {len(value.encode())} bytes; at most {rule.max_size} are allowed")]
    if rule.one_of and value not in rule.one_of:
        return [Violation(path, f'is "{value[:80]}"; must be one of {", ".join(rule.one_of)}')]
    if rule.pattern and not re.fullmatch(rule.pattern, value):
        return [Violation(path, f'is "{value[:80]}"; must match {rule.pattern}')]
    return []
