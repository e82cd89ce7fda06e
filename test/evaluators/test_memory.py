"""An evaluation keeps a few numbers for each item, however many classes there are."""

import subprocess
import sys

import pytest
from conftest import ROOT

PROGRAM = """
import resource
import torch
from evaluators.classification import score_views
from evaluators.gather import gather

class Alone:
    def gather(self, value):
        return [value]

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

num_items, batch_size = 40_000, 32
logits, labels = torch.randn(batch_size, 1, 1000, dtype=torch.float64), torch.arange(batch_size)
batches = (
    {"index": torch.arange(at, at + batch_size), "label": labels, "failures": []}
    for at in range(0, num_items, batch_size)
)
before = peak_mib()
found = gather(batches, lambda batch: score_views(batch["index"], batch["label"], logits), Alone(), num_items)
assert found.num_read == num_items
print(peak_mib() - before)
"""


@pytest.mark.slow
def test_memory_of_an_evaluation():
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 80  # MiB; with small arrays of each batch, sorted, it was 240
