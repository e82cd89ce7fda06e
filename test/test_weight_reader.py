"""Weight files of other programs, and files that hold something besides the weights."""

import tarfile

import numpy as np
import pytest
import torch
from mxnet_network import write_params
from torch import nn

from models import WeightsError, load_pretrained, load_weights


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


@pytest.mark.parametrize("load", [load_weights, load_pretrained])
def test_an_average_is_taken_or_mentioned(tmp_path, model, caplog, load):
    caplog.set_level("INFO")
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average = {name: tensor + 1 for name, tensor in weights.items()}
    torch.save({"model": weights, "model_ema": average}, path := tmp_path / "both.pth")
    load(model, path, average=True)
    assert torch.equal(model.weight, average["weight"]) and not caplog.text
    load(model, path)
    assert torch.equal(model.weight, weights["weight"])
    assert (
        "both.pth: also has an average of the weights (model_ema), which is not used; to use it: --avera" in caplog.text
    )
    torch.save({"model_ema": average}, tmp_path / "average.pth")
    caplog.clear()
    load(model, tmp_path / "average.pth")
    assert not caplog.text


def test_arrays_of_numpy_are_weights(tmp_path, model):
    weights = {name: tensor.numpy() + 1 for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": weights, "random_state": np.arange(3)}, tmp_path / "arrays.pth")
    load_weights(model, tmp_path / "arrays.pth")
    assert np.array_equal(model.weight.detach().numpy(), weights["weight"])
    for odd in (np.array(["a"]), np.zeros(2, np.longdouble)):
        torch.save(weights | {"odd": odd}, tmp_path / "odd.pth")
        with pytest.raises(WeightsError, match="contains the entry 'odd' of type ndarray"):
            load_weights(model, tmp_path / "odd.pth")
    torch.save({"state_dict": model.state_dict(), "names": np.array(["a", None])}, tmp_path / "beside.pth")
    assert len(load_weights(model, tmp_path / "beside.pth").loaded) == 2
