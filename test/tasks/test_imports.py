"""What a command imports when it starts: not what only other tasks need, nor torch's compiler and sharding."""

import subprocess
import sys

import pytest
from conftest import ROOT

PROGRAM = """
import importlib, sys
for module in ("engine.trainer", "tools.common.loading_runs", sys.argv[1]):
    importlib.import_module(module)
print(*{name.partition(".")[0] if name[:6] != "torch." else name for name in sys.modules})
"""
SLOW = {"torch_geometric", "gemmi", "timm", "matplotlib", "tensorboard"}
BROUGHT_BY_TORCHVISION = {"torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor", "sympy"}


@pytest.mark.parametrize(
    "task",
    [
        "clip_classification",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("image_classification", "segmentation", "detection")),
    ],
)
def test_a_task_waits_for_the_libraries_that_only_others_need(task):
    words = [sys.executable, "-c", PROGRAM, f"tasks.{task}"]
    imported = set(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    unneeded = SLOW if task in ("segmentation", "detection") else SLOW | BROUGHT_BY_TORCHVISION | {"torchvision"}
    assert "torch" in imported and not unneeded & imported
