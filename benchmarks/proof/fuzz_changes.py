"""Messages that were sound once, with something in them changed: any field of any message within."""

import math
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from benchmarks.proof.fuzz_draws import FLOATS, INTS, LONG_INTS, Draws

_LONG = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_UINT64}
_FLOAT = {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}
_NEAR = (0.0, 1.0, 0.5, 0.25, 0.999, 1e-6)
_BROKEN = (math.nan, math.inf, -math.inf, -0.5, 1.5, 1e30)


def change(draws: Draws, message: Message, times: int = 1) -> None:
    """Changes a message in place, in so many places."""
    for _ in range(times):
        places = list(_places(message))
        if places:
            _change_field(draws, *draws.choice(places))


def _places(message: Message) -> list[tuple[Message, FieldDescriptor]]:
    """Every field that is set, of the message and of all that it holds."""
    found: list[tuple[Message, FieldDescriptor]] = []
    for field, value in message.ListFields():
        found.append((message, field))
        if field.type != FieldDescriptor.TYPE_MESSAGE or field.message_type.GetOptions().map_entry:
            continue
        for part in list(value)[:8] if field.is_repeated else [value]:
            found += _places(part)
    return found


def _change_field(draws: Draws, message: Message, field: FieldDescriptor) -> None:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        if field.message_type.GetOptions().map_entry or not field.is_repeated:
            if draws.maybe(0.1):
                message.ClearField(field.name)
            return
        _change_list(draws, getattr(message, field.name), None)
    elif field.is_repeated:
        _change_list(draws, getattr(message, field.name), field)
    else:
        setattr(message, field.name, _other(draws, field, getattr(message, field.name)))


def _change_list(draws: Draws, held: Any, field: FieldDescriptor | None) -> None:
    """Of a list one item is changed, doubled, dropped or moved; field: of numbers and texts."""
    at = draws.randrange(len(held)) if len(held) else 0
    match draws.randrange(12 if field is not None else 4):
        case _ if not len(held):
            return
        case 0:
            del held[at]
        case 1:
            held.append(held[at])
        case 2:
            held.insert(0, held[at])
        case 3:
            del held[at + 1 :]
        case _:
            assert field is not None
            held[at] = _other(draws, field, held[at])


def _other(draws: Draws, field: FieldDescriptor, value: Any) -> Any:
    known = draws.pools.get(field.name)
    if known and draws.maybe(0.8):
        return draws.choice(known)
    match field.type:
        case FieldDescriptor.TYPE_BOOL:
            return not value
        case FieldDescriptor.TYPE_ENUM:
            return draws.choice((0, 1, 2, 3, 4, 5, -1, 77))
        case FieldDescriptor.TYPE_STRING:
            return draws.text()
        case FieldDescriptor.TYPE_BYTES:
            return draws.damaged(value, value)
        case kind if kind in _FLOAT:
            return draws.choice(draws.choice((FLOATS, _NEAR, _BROKEN, _BROKEN)))
        case kind:
            number = draws.choice(LONG_INTS if kind in _LONG else INTS)
            number = min(number, 2**63 - 1) if kind != FieldDescriptor.TYPE_UINT64 else number
            number = min(number, 2**31 - 1) if kind == FieldDescriptor.TYPE_INT32 else number
            signed = kind not in (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64)
            return -number if signed and draws.maybe(0.2) else number
