"""Weight files of other programs, and files that hold something besides the weights."""

import tarfile

import numpy as np
import pytest
from mxnet_network import write_params
from torch import nn

from models import WeightsError, load_weights


@pytest.fixture
def model():
    return nn.Linear(3, 2)


def test_files_of_mxnet_and_their_archives_are_recognized(tmp_path, model):
    write_params(tmp_path / "image.params", {"arg:conv": np.zeros((2, 2), np.float32)})
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        archive.add(tmp_path / "image.params", "image.params")
    for name, message in (
        ("image.params", r"is a parameter file of MXNet: tools/read_mxnet\.py converts those"),
        ("image.tar", r"is a tar archive: unpack it, .*; of \.params files, tools/read_mxnet\.py converts those"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_weights(model, tmp_path / name)
