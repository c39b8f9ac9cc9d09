"""Every method by every kind of caller that must not come in, and what concerns the whole service, as a table.

A service of its own, with TLS, tokens and limits, is called over real connections. What a caller must see is derived
from the protos; a case is wrong where it sees anything else, or no trace id.
"""

from collections.abc import Sequence

from rich.console import Console

from benchmarks import harness
from benchmarks.proof import guarded_methods, guarded_whole
from benchmarks.proof.guarded import guarded
from benchmarks.proof.guarded_methods import CASES, Case
from benchmarks.proof.guarded_whole import Whole
from dreamsvc.cli import output


def run(_: bool, console: Console) -> harness.Measured:
    with guarded() as service:
        cases = list(guarded_methods.cases(service))
        lines = list(guarded_whole.lines(service))
        service.stop()
    show(console, cases, lines)
    wrong = [one for one in (*cases, *lines) if not one.right]
    figures = {
        "cases": len(cases) + len(lines),
        "wrong": len(wrong),
        "methods": len({case.method for case in cases}),
    }
    detail = {
        "of_methods": {case: sum(one.case == case for one in cases) for case in CASES},
        "of_the_service": [f"{line.what}: {line.seen}" for line in lines],
        "wrong": [str(one) for one in wrong],
    }
    return harness.Measured(figures, detail)


def show(console: Console, cases: Sequence[Case], lines: Sequence[Whole]) -> None:
    table = output.table("METHOD", *CASES)
    for method in dict.fromkeys(case.method for case in cases):
        cells = [[one for one in cases if (one.method, one.case) == (method, case)] for case in CASES]
        table.add_row(method.rpartition("/")[2], *(_cell(cell) for cell in cells))
    console.print(table)
    table = output.table("THE SERVICE", "MUST", "SEEN")
    for line in lines:
        table.add_row(line.what, line.expected, line.seen if line.right else f"{line.seen}  WRONG")
    console.print(table)


def _cell(cell: Sequence[Case]) -> str:
    if not cell:
        return "-"
    wrong = [one for one in cell if not one.right]
    return f"WRONG: {wrong[0].seen.reason or wrong[0].seen.code}" if wrong else "ok"


BENCHMARK = harness.Benchmark(
    figures=["cases", "wrong", "methods"],
    targets={"wrong": (harness.Target(most=0),)},
    run=run,
)
