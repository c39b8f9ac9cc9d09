"""What fuzzing draws from a seed: values at every edge, texts that break readers, messages by their descriptors, and
bytes that were valid once."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from dreamsvc.v1 import options_pb2

FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, math.nan, math.inf, -math.inf, 5e-324, 1e-45, 1e-7, 1 + 1e-9, 65504.0, 65520.0)
FLOATS += (3.4028235e38, 3.5e38, 1.7976931348623157e308, 2.0**53 + 1)
INTS = (0, 1, 2, 3, 7, 10, 255, 256, 1000, 1001, 2000, 2001, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
LONG_INTS = (*INTS, 2**32, 2**53, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
# What is at the edge of a format, by name.
CORPUS: Mapping[str, list[str]] = json.loads(Path(__file__).with_name("fuzz_corpus.json").read_text(encoding="utf-8"))
TEXTS = CORPUS["texts"]
_FLOATS = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
_BOUNDS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
# Seconds of the years 1 and 9999, and about them.
_SECONDS = (0, 1, -1, -62135596800, -62135596801, 253402300799, 253402300800, 2**63 - 1, -(2**63), 1_700_000_000)
_NANOS = (0, 1, 999_999_999, 1_000_000_000, -1, 2**31 - 1, -(2**31))

type Pools = Mapping[str, Sequence[Any]]


class Draws(Random):
    """Draws of one seed; the same seed gives the same of everything."""

    def __init__(self, seed: int | str, pools: Pools | None = None) -> None:
        """pools: by the name of a field, values that the store has something for."""
        super().__init__(seed)
        self.pools = pools or {}
        # How often a value breaks its rule, in messages.
        self.wild = 0.1

    # ── values ──────────────────────────────────────────────────────────────────

    def maybe(self, share: float) -> bool:
        return self.random() < share

    def count(self) -> int:
        """How many of something: mostly few, seldom many."""
        return self.choice((0, 1, 1, 1, 2, 2, 3, 5, 8)) if self.random() < 0.995 else self.choice((64, 65, 400, 2001))

    def float_(self, low: float = -10.0, high: float = 10.0) -> float:
        return self.choice(FLOATS) if self.maybe(self.wild) else self.uniform(low, high)

    def int_(self, low: int, high: int) -> int:
        drawn = self.choice(LONG_INTS) if self.maybe(0.3) else self.randrange(-3, 300)
        return min(max(-drawn if self.maybe(0.1) else drawn, low), high)

    def text(self) -> str:
        """A text that UTF-8 can hold."""
        match self.randrange(12):
            case 0 | 1 | 2 | 3:
                return self.choice(TEXTS)
            case 4:
                return self.choice(TEXTS) * self.choice((2, 3, 40, 129, 513, 1025, 4097))
            case 5:
                return "".join(self.choices(TEXTS, k=self.randrange(1, 8)))
            case 6 if self.maybe(0.02):
                return self.choice(("a", "ab ", "ä", "中", "\0", "a.", "\u0301")) * self.choice(
                    (65537, 1_048_576, 1_048_577)
                )
            case 7:
                return "".join(chr(self._scalar()) for _ in range(self.randrange(1, 20)))
            case _:
                return " ".join(
                    self.choices(("a", "b", "memory", "Oslo", "7", "km", "not", "x"), k=self.randrange(1, 9))
                )

    def _scalar(self) -> int:
        code = self.choice((self.randrange(0x80), self.randrange(0x800), self.randrange(0x110000)))
        return 0xFFFD if 0xD800 <= code < 0xE000 else code

    # ── messages ────────────────────────────────────────────────────────────────

    def message[M: Message](self, kind: type[M], *, fill: float = 0.6) -> M:
        """A message of some kind that mostly keeps its rules; fill: how many of its fields are set."""
        message = kind()
        self._fill(message, fill, 0)
        return message

    def _fill(self, message: Message, fill: float, depth: int) -> None:
        if isinstance(message, timestamp_pb2.Timestamp | duration_pb2.Duration):
            wild = self.maybe(self.wild)
            message.seconds = self.choice(_SECONDS) if wild else self.randrange(0, 2000)
            message.nanos = self.choice(_NANOS) if wild else 0
            return
        if isinstance(message, struct_pb2.Struct):
            self._fill_struct(message)
            return
        chosen = {one.name: self.choice(one.fields).name for one in message.DESCRIPTOR.oneofs if len(one.fields) > 1}
        for field in message.DESCRIPTOR.fields:
            of_one = field.containing_oneof
            if of_one is not None and chosen.get(of_one.name, field.name) != field.name:
                continue
            if self.maybe(fill if depth < 4 else fill / 4):
                self._set(message, field, fill, depth)

    def _set(self, message: Message, field: FieldDescriptor, fill: float, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            held = getattr(message, field.name)
            for _ in range(self.randrange(3)):
                held[self.text()[:200]] = self.int_(0, 2**63 - 1)
            return
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if not field.is_repeated:
                part: Message = getattr(message, field.name)
                part.SetInParent()
                self._fill(part, fill, depth + 1)
                return
            for _ in range(min(self.count(), 8 >> depth)):
                self._fill(getattr(message, field.name).add(), fill, depth + 1)
            return
        if field.is_repeated:
            getattr(message, field.name).extend(self._value(field) for _ in range(self.count()))
        else:
            setattr(message, field.name, self._value(field))

    def _fill_struct(self, struct: struct_pb2.Struct) -> None:
        if self.maybe(0.05):
            inner = struct
            for _ in range(self.choice((5, 20, 31, 33, 60))):
                inner = inner.fields["a"].struct_value
            inner.fields["end"].null_value = struct_pb2.NULL_VALUE
            return
        for _ in range(self.randrange(4)):
            name = self.choice(("session", "entities", self.text()[:100]))
            value = struct.fields[name]
            match self.randrange(5):
                case 0:
                    value.number_value = self.choice(FLOATS)
                case 1:
                    value.bool_value = True
                case 2:
                    value.list_value.values.add().string_value = self.text()[:1000]
                case 3:
                    value.SetInParent()
                case _:
                    value.string_value = self.text()[:1000]

    def _value(self, field: FieldDescriptor) -> Any:
        known = self.pools.get(field.name)
        if known and self.maybe(0.7):
            return self.choice(known)
        rule = field.GetOptions().Extensions[options_pb2.rule]
        wild = self.maybe(self.wild)
        match field.type:
            case FieldDescriptor.TYPE_BOOL:
                return self.maybe(0.5)
            case FieldDescriptor.TYPE_ENUM:
                assert field.enum_type is not None
                numbers = list(field.enum_type.values_by_number)
                return self.choice((-1, 99, 2**31 - 1, -(2**31))) if wild else self.choice(numbers)
            case FieldDescriptor.TYPE_BYTES:
                return self.randbytes(self.randrange(64))
            case FieldDescriptor.TYPE_STRING:
                text = self.text()
                if rule.one_of and not wild:
                    return self.choice(rule.one_of)
                return text if wild or not rule.max_size else text[: rule.max_size // 4]
            case kind if kind in _FLOATS:
                return self.float_(rule.min, rule.max) if rule.HasField("max") else self.float_()
            case kind:
                low, high = _BOUNDS[kind]
                if rule.HasField("max") and not wild:
                    low, high = int(rule.min), int(rule.max)
                return self.int_(low, high)

    # ── bytes ───────────────────────────────────────────────────────────────────

    def damaged(self, data: bytes, other: bytes = b"") -> bytes:
        """Valid bytes with something done to them, once or a few times."""
        for _ in range(self.choice((1, 1, 1, 2, 4))):
            data = self._damaged_once(data, other)
        return data

    def _damaged_once(self, data: bytes, other: bytes) -> bytes:
        if not data:
            return self.randbytes(self.randrange(64))
        at = self.randrange(len(data))
        to = min(len(data), at + self.choice((1, 2, 4, 16, 200)))
        match self.randrange(9):
            case 0:
                return data[:at] + bytes([data[at] ^ 1 << self.randrange(8)]) + data[at + 1 :]
            case 1:
                return data[:at] + bytes([self.choice((0, 1, 0x7F, 0x80, 0xC0, 0xFF, 0xED))]) + data[at + 1 :]
            case 2:
                return data[:at]
            case 3:
                return data[:at] + data[to:]
            case 4:
                return data[:at] + self.randbytes(to - at) + data[at:]
            case 5:
                return data[:to] + data[at:to] * self.choice((1, 2, 30)) + data[to:]
            case 6:
                return data[:at] + other[self.randrange(len(other) + 1) :]
            case 7:
                return data[:at] + b"\xff\xff\xff\xff\x0f" + data[at:]
            case _:
                return data[:at] + data[at:to][::-1] + data[to:]


def nested(field: int, depth: int) -> bytes:
    """A length-delimited field within itself, `depth` times."""
    inner = b""
    tag = field << 3 | 2
    for _ in range(depth):
        inner = bytes([tag]) + varint(len(inner)) + inner
    return inner


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
