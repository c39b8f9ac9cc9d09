"""The tables below the record of a dream, each for a part of its report."""

from collections.abc import Iterable, Iterator

from rich.table import Table

from dreamsvc.cli import output
from dreamsvc.cli.compression_text import Row, compression_rows, quality_rows
from dreamsvc.cli.exploration_text import exploration_rows, tuning_rows
from dreamsvc.v1.dream_pb2 import DreamReport

# By recovery strategy.
_FOLLOWED = {
    "retry": "tried again",
    "rollback": "went back to the last checkpoint in a new process",
    "skip": "left out",
}


def tables(report: DreamReport) -> Iterator[Table]:
    """Those that the report has something for."""
    if report.faults:
        yield _table(
            "errors it got over",
            (
                (fault.place, f"{_FOLLOWED.get(fault.recovery, fault.recovery)}: {fault.what}")
                for fault in report.faults
            ),
        )
    if report.HasField("tuning"):
        yield _table("tuning", tuning_rows(report.tuning))
    # A dream of REM alone has nothing to say of it but sizes that stay.
    only_rem = report.HasField("exploration") and not report.compression.HasField("redundancy")
    if report.HasField("compression") and not only_rem:
        yield _table("compression", compression_rows(report.compression))
    # A dream that was over before REM has nothing to say of it.
    if report.HasField("exploration") and (explored := list(exploration_rows(report.exploration))):
        yield _table("exploration", explored)
    if report.HasField("quality"):
        yield _table("quality", quality_rows(report.quality))


def _table(title: str, rows: Iterable[Row]) -> Table:
    made = output.table(title, "")
    # A long sentence beside it takes no room from the label.
    made.columns[0].no_wrap = True
    for label, value in rows:
        made.add_row(label, output.plain(value))
    return made
