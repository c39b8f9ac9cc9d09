"""The heap of a process that frees a lot gets smaller."""

import platform
import subprocess
import sys

import pytest

FREES_A_LOT = """
import threading
from dreamsvc import heap

def resident():
    with open("/proc/self/statm") as told:
        return int(told.read().split()[1]) * 4096

heap.few_arenas()
kept, freed = [], []
def take():
    # Small pieces in turn, so that what is freed lies between what stays.
    for _ in range(200_000):
        freed.append(bytes(700)); kept.append(bytes(40))
threads = [threading.Thread(target=take) for _ in range(2)]
for one in threads: one.start()
for one in threads: one.join()
freed.clear()
before = resident()
heap.give_back()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc only")
def test_what_was_freed_goes_back_to_the_system() -> None:
    told = subprocess.run([sys.executable, "-c", FREES_A_LOT], capture_output=True, text=True, check=True, timeout=60)
    assert int(told.stdout) > 10_000_000
