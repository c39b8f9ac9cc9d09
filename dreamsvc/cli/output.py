"""How answers look: JSON for programs, tables and lines for people."""

import json
import re
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from dreamsvc import clock

# Lines of a file or a pipe are not wrapped to the width of nothing.
_WIDTH_WITHOUT_TERMINAL = 160

# All control characters but tab and newline: a memory's text must not steer the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class EnumType(Protocol):
    """A generated enum."""

    def Name(self, number: Any) -> str: ...


def console(*, stderr: bool = False) -> Console:
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr, highlight=False, markup=False, emoji=False, width=None if terminal else _WIDTH_WITHOUT_TERMINAL
    )


@contextmanager
def bar(what: str) -> Generator[Callable[[int, int], None]]:
    """A bar on standard error, told how much is done of how much; nothing where that is no terminal."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def to_dict(message: Message) -> dict[str, Any]:
    """The message with the names of the protos; zeros are there too, so that a program can rely on a key."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def json_text(message: Message) -> str:
    """One object on one line."""
    return json.dumps(to_dict(message), ensure_ascii=False)


def print_json(message: Message) -> None:
    print(json_text(message), flush=True)


def print_text(text: str) -> None:
    print(plain(text))


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Labels and values, aligned; pairs without a value are left out."""
    width = max((len(label) for label, _ in pairs), default=0)
    for label, value in pairs:
        if value:
            print(f"{label:<{width}}  {plain(value)}")


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table; a column whose name starts with ">" is set to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        made.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    return made


def plain(text: str) -> str:
    return _CONTROL.sub("", text)


def shortened(text: str, length: int) -> str:
    """The beginning of a text on one line."""
    line = " ".join(plain(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def word(enum: EnumType, number: int, prefix: str) -> str:
    """An enum's value for people, e.g. "entering nrem"; the number itself where this version does not know it."""
    try:
        name = enum.Name(number)
    except ValueError:
        return str(number)
    name = name.removeprefix(prefix)
    return "" if name == "UNSPECIFIED" else name.lower().replace("_", " ")


def time_text(stamp: Timestamp) -> str:
    """E.g. 2026-03-01 12:00:00Z."""
    return clock.iso(clock.from_timestamp(stamp))[:19].replace("T", " ") + "Z"


def seconds_text(seconds: float) -> str:
    """E.g. "0.4 s", "12 s", "3 min 05 s"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole // 60 % 60:02} min"


def bytes_text(count: int) -> str:
    """E.g. "812 B", "1.4 MB"."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def counted(number: int, one: str, many: str) -> str:
    """E.g. "1 memory", "1,200 memories"."""
    return f"{number:,} {one if number == 1 else many}"


def percent_text(share: float) -> str:
    """E.g. "61.0 %" of 0.61."""
    return f"{share * 100:.1f} %"


def ratio_text(before: float, after: float) -> str:
    """How many times smaller, e.g. "9.2:1"; empty where one of the two is nothing."""
    return f"{before / after:,.1f}:1" if before and after else ""
