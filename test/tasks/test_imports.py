"""What a task imports when a command starts: not what only other tasks need."""

import subprocess
import sys

import pytest
from conftest import ROOT

PROGRAM = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(sorted({"torch_geometric", "gemmi", "timm"} & set(sys.modules)))
"""


@pytest.mark.parametrize("task", ["clip_classification", "image_classification", "segmentation", "detection"])
def test_videos_and_images_wait_for_no_library_of_graphs(task):
    words = [sys.executable, "-c", PROGRAM, f"tasks.{task}"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
