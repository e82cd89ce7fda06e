"""The loops that tasks share: what an interrupted evaluation must have in common to be continued, and an empty one."""

import numpy as np
import pytest
import torch

from datasets.file_list import FileError
from engine.distributed import Ranks
from engine.task import ResumeFolder
from evaluators.resumable_predictions import ResumablePredictions
from tasks.loops import check_any_read, resumable_in

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.mark.parametrize(
    ("weights", "key", "num_kept"), [("these", 1, 2), ("others", 1, 0), ("these", 2, 0)]
)  # the same; other weights; other settings
def test_rows_are_kept_for_the_same_weights_and_settings(tmp_path, monkeypatch, weights, key, num_kept):
    monkeypatch.setattr(ResumablePredictions.__init__, "__defaults__", (0,))  # written at once
    kept = resumable_in(ResumeFolder(tmp_path, {"weights": "these"}), {"size": 1}, ALONE)
    kept.keep({"index": np.array([0, 3])})
    found = resumable_in(ResumeFolder(tmp_path, {"weights": weights}), {"size": key}, ALONE)
    assert len(found.done) == num_kept


def test_an_evaluation_without_a_readable_file_says_why():
    check_any_read(1, [{"path": "a.jpg", "reason": "no image"}], "image")
    with pytest.raises(FileError, match=r"a\.jpg: no image; no validation image can be read"):
        check_any_read(0, [{"path": "a.jpg", "reason": "no image"}], "image")
