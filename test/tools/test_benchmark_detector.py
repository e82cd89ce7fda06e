"""Our Mask R-CNN beside torchvision's: both run, and both find something to make masks for."""

import pytest
import torch

from tools.benchmark import main
from tools.benchmarks import detector


@pytest.mark.slow
def test_table(capsys):
    main(["detector", "--height", "64", "--width", "96", "--repeats", "1"])
    rows = [(line[:26].strip(), line[26:].split()) for line in capsys.readouterr().out.splitlines()[2:]]
    assert [name for name, _ in rows] == list(detector.KINDS) and all(float(numbers[0]) > 0 for _, numbers in rows)


@pytest.mark.slow
def test_both_make_masks():
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (ours,) = detector.build("ours", 64, 96)(images)
        (theirs,) = detector.build("torchvision", 64, 96)(images)
    assert len(ours.masks) > 10 and len(theirs["masks"]) > 10
