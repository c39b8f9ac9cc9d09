"""Crashes at points: that the right ones are counted, and that a store that breaks its word is found out."""

import json
import os
import subprocess
import sys
from itertools import islice
from typing import Any

import pytest

from benchmarks.proof.point_rounds import points_of

# A commit in the middle, and some points between it and the next.
TORN = """
def torn(connection):
    for statement in ("COMMIT", "BEGIN IMMEDIATE", "SAVEPOINT job", *["SELECT 1"] * 40):
        connection.execute(statement).fetchall()
"""
# Changes to the product that break an invariant each, in the process that is crashed.
SABOTAGES = {
    "it acknowledges a write before the write is there": (
        "forget",
        1,
        """
from concurrent.futures import Future
from time import sleep
from benchmarks.proof.life import Life
from dreamsvc.memory import forget
from dreamsvc.memory.store import Store
from dreamsvc.v1.memory_service_pb2 import ForgetResponse
late = []
def early(self, request):
    late.append(real(self, request))
    answer = Future()
    answer.set_result(ForgetResponse())
    return answer
def slow(*arguments):
    sleep(0.5)
    return write(*arguments)
real, Store.forget = Store.forget, early
write, forget.forget = forget.forget, slow
Life._note = lambda self: [one.result() for one in late]
""",
        "was acknowledged as",
    ),
    "a call is two commits": (
        "remember",
        6,
        f"""
{TORN}
from dreamsvc.memory import remember
def write_edges(connection, *more):
    torn(connection)
    return real(connection, *more)
real, remember.write_edges = remember.write_edges, write_edges
""",
        "the export is",
    ),
    "a part and the cursor are two commits": (
        "fold",
        6,
        f"""
{TORN}
from dreamsvc.memory import operations
def advance(connection, *more):
    torn(connection)
    return real(connection, *more)
real, operations.advance = operations.advance, advance
""",
        "what was before it",
    ),
    "a start leaves sealed work lying": (
        "fold",
        1,
        """
from dreamsvc.dream.records import Records
async def recover(self): ...
Records.recover = recover
""",
        "no sealed work is left over",
    ),
}


def rounds(sabotage: str, *arguments: str) -> list[dict[str, Any]]:
    script = f"{sabotage}\nimport sys\nfrom benchmarks.proof.point_rounds import main\nmain(sys.argv[1:])\n"
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("broken", SABOTAGES)
def test_a_store_that_breaks_its_word_is_found_out(broken: str) -> None:
    name, count, sabotage, said = SABOTAGES[broken]
    found = [wrong for one in rounds(sabotage, name, "--count", str(count)) for wrong in one["wrong"]]
    assert any(said in wrong for wrong in found), found


@pytest.mark.timeout(120)
def test_the_last_point_is_the_one_before_the_operation_is_through() -> None:
    reference, _ = rounds("", "forget", "--count", "1")
    last = reference["points"]
    _, *crashes = rounds("", "forget", "--at", str(last), str(last + 1))
    assert [(one["point"], one["there"]) for one in crashes] == [(last, True), (last + 1, False)]
    assert sum(reference["kinds"].values()) == reference["points"]
    assert {"statement", "write", "sync"} <= reference["kinds"].keys()


def test_points_are_spread_evenly_or_all_of_them() -> None:
    assert list(points_of(100, 4)) == [13, 38, 63, 88]
    assert list(points_of(100, 1)) == [51]
    for count in (0, 3, 4):
        assert list(islice(points_of(3, count), 6)) == [1, 2, 3, 4, 5, 6]
