"""Freed memory stays with the process where a run asks for it, and only there."""

import subprocess
import sys

import pytest
from conftest import ROOT

PROGRAM = """
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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("keep", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_freed_memory_is_kept(keep):
    words = [sys.executable, "-c", PROGRAM, str(keep)]
    name, mebibytes = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    if name != "glibc":
        pytest.skip(f"the allocator is {name}")
    assert (float(mebibytes) > 90) == keep
