"""Freed memory stays with the process unless a run says otherwise, and does not fall into ever more pieces."""

import subprocess
import sys

import pytest
from conftest import ROOT

KEPT = """
import sys
import torch
from engine.allocator import allocator
from engine.distributed import open_device

def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

open_device("cpu", keep_memory=sys.argv[1] == "True")
before = resident_mib()
torch.ones(100 * 2**18)  # 100 MiB, freed at once
print(allocator(), resident_mib() - before)
"""

FORKED = """
import os, sys
from engine.allocator import allocator, keep_freed_memory

def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

keep_freed_memory()
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
import numpy as np
before = resident_mib()
np.ones(100 * 2**17)
print(allocator(), resident_mib() - before)
"""

IN_PIECES = """
import sys, time
import numpy as np
from engine import allocator

def resident_mib():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

allocator.LOOK_SECONDS = 0.01
allocator.keep_freed_memory()
before, stay = resident_mib(), []
for size in range(2**20, 2**20 + 20 * 2**13, 2**13):  # too large for what the last round left free
    blocks = []
    for _ in range(20):
        blocks.append(np.ones(size, np.uint8))
        stay.append(bytes(2**10))
    del blocks  # 20 MiB, with a block that stays after each MiB
    end = time.monotonic() + 1  # of a busy machine, whose thread may wait for its turn
    while resident_mib() - before > 10 and time.monotonic() < end:
        time.sleep(0.01)
print(allocator.allocator(), resident_mib() - before)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def growth(program, *arguments) -> float:
    """MiB that a program under glibc says it has grown."""
    words = [sys.executable, "-c", program, *arguments]
    name, mebibytes = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    if name != "glibc":
        pytest.skip(f"the allocator is {name}")
    return float(mebibytes)


@pytest.mark.parametrize("keep", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_freed_memory_is_kept(keep):
    assert (growth(KEPT, str(keep)) > 90) == keep


def test_forked_processes_return_it():
    assert growth(FORKED) < 10


def test_pieces_are_handed_back():
    assert growth(IN_PIECES) < 15  # 40 where nothing is handed back
