"""A process that ends at any statement, write or sync of any operation: the store is in order, and goes on as it would.

Every point is one of the benchmark `crashpoints`; here are some of each operation.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.proof.point_operations import OPERATIONS

POINTS_EACH = 5


@pytest.fixture(scope="module")
def rounds() -> list[dict[str, Any]]:
    """What was found at some points of every operation, by a process of its own, since it forks."""
    command = [sys.executable, "-m", "benchmarks.proof.point_rounds", "--count", str(POINTS_EACH)]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_crash_at_any_point_loses_nothing(name: str, rounds: list[dict[str, Any]]) -> None:
    reference, *crashes = [one for one in rounds if one["operation"] == name]
    assert [one["wrong"] for one in (reference, *crashes) if one["wrong"]] == []
    assert reference["points"] > POINTS_EACH == len(crashes)
    assert all(one["there"] for one in crashes)
