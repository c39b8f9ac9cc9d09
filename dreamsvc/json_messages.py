"""Messages from and to JSON values. Protobuf's own code for it takes 20 ms to import, of a start that may take 250,
so it is imported at the first use, here and nowhere else in the serving process."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message


class UnreadableJson(ValueError):
    """A value does not fit the message; the text names the field."""


def read(value: Mapping[str, Any], into: Message) -> None:
    """Puts JSON values into a message; raises UnreadableJson."""
    from google.protobuf import json_format

    try:
        json_format.ParseDict(dict(value), into)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UnreadableJson(str(error)) from error
    except SystemError as error:
        # What protobuf's look at the names of a nested message makes of a name that no UTF-8 can spell.
        raise UnreadableJson("the name of a field is half of a surrogate pair, which is no text") from error


def write(message: Message) -> dict[str, Any]:
    """A message as JSON values, fields by the names of the proto."""
    from google.protobuf import json_format

    return json_format.MessageToDict(message, preserving_proto_field_name=True)
