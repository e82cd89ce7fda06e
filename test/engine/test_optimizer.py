"""Parameter groups and updates equal those of the authors' optimizer."""

import json
from pathlib import Path

import pytest
import torch

from engine.optimizer import OptimizerSettings, build_optimizer, parameter_groups, set_learning_rate
from models import create_model

GOLDEN = json.loads((Path(__file__).parent.parent / "golden/glore_train.json").read_text())
PAPER = {"lr": 0.05, "weight_decay": 1e-4, "no_decay": [r"\.bias$"]}


@pytest.mark.parametrize("name", ["glore_resnet50_3d", "glore_resnet101_3d"])
@pytest.mark.parametrize(
    ("suffix", "multipliers"), [("", {"conv_m2": 0.5}), ("_fine_tune", {"^(?!classifier)": 0.5})], ids=["", "fine-tune"]
)
def test_groups_equal_those_of_the_authors(name, suffix, multipliers):
    with torch.device("meta"):
        model = create_model(name)
    groups = parameter_groups(model, OptimizerSettings(**PAPER, lr_multipliers=multipliers))
    ours = {(group["lr_multiplier"], group["weight_decay"]): group for group in groups}
    theirs: dict[tuple, list] = {}
    for group in GOLDEN["param_groups"]["variants"][name + suffix]["groups"]:
        theirs.setdefault((group["lr_mult"], group["weight_decay"]), []).append(group)
    for key, parts in theirs.items():
        if tensors := sum(part["tensors"] for part in parts):
            assert len(ours[key]["names"]) == tensors
            assert sum(p.numel() for p in ours[key]["params"]) == sum(part["numel"] for part in parts)
            if all("params" in part for part in parts):
                assert sorted(ours[key]["names"]) == sorted(name for part in parts for name in part["params"])


def test_sgd_updates_equal_those_of_the_authors():
    golden = GOLDEN["optimizer"]["sequence"]
    weight = torch.nn.Parameter(torch.tensor(golden["p0"], dtype=torch.float64))
    model = torch.nn.Module()
    model.weight = weight
    settings = OptimizerSettings(lr=golden["lr"], momentum=golden["momentum"], weight_decay=golden["weight_decay"])
    optimizer = build_optimizer(model, settings)
    set_learning_rate(optimizer, golden["lr"])
    for k, expected in enumerate(golden["p_after_each_step"]):
        weight.grad = torch.tensor([0.5, 0.25], dtype=torch.float64) * (k + 1)
        optimizer.step()
        assert weight.tolist() == pytest.approx(expected, abs=1e-11)


def test_learning_rate_follows_the_multipliers():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[1].bias.requires_grad_(False)
    optimizer = build_optimizer(model, OptimizerSettings(name="adamw", lr=1.0, lr_multipliers={"^0": 0.1}))
    set_learning_rate(optimizer, 0.5)
    assert {tuple(group["names"]): group["lr"] for group in optimizer.param_groups} == {
        ("0.weight", "0.bias"): 0.05,
        ("1.weight",): 0.5,
    }


class Layers(torch.nn.Module):
    """Three linear layers with `layer_of`."""

    num_layers = 2

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(3))
        self.scale = torch.nn.Parameter(torch.ones(()))

    def layer_of(self, name):
        return int(name.split(".")[1]) if name.startswith("layers") else self.num_layers


def test_layer_decay_lowers_the_rate_of_early_layers():
    settings = OptimizerSettings(name="adamw", lr=1, weight_decay=0.1, layer_decay=0.5, no_decay_vectors=True, eps=1e-6)
    optimizer = build_optimizer(Layers(), settings)
    groups = {
        tuple(group["names"]): (group["lr_multiplier"], group["weight_decay"]) for group in optimizer.param_groups
    }
    assert groups == {
        ("scale",): (1, 0.1),  # a scalar is not a vector; it gets its own group because it is never sharded
        ("layers.2.weight",): (1, 0.1),
        ("layers.2.bias",): (1, 0),
        ("layers.1.weight",): (0.5, 0.1),
        ("layers.1.bias",): (0.5, 0),
        ("layers.0.weight",): (0.25, 0.1),
        ("layers.0.bias",): (0.25, 0),
    }
    assert optimizer.param_groups[0]["eps"] == 1e-6
    with pytest.raises(ValueError, match=r"optimizer\.layer_decay: Linear does not define its layers"):
        build_optimizer(torch.nn.Linear(2, 2), settings)


def test_useless_settings_are_rejected():
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"match no parameter of the model: \['conv_m2'\]$"):
        build_optimizer(model, OptimizerSettings(lr=1, lr_multipliers={"conv_m2": 0.5}))
    with pytest.raises(ValueError, match=r"\['bn'\]; settings that fit any network: optimizer\.no_decay=\[\] opt"):
        build_optimizer(model, OptimizerSettings(lr=1, no_decay=["bn"]))
    with pytest.raises(ValueError, match="betas does not apply to sgd"):
        OptimizerSettings(lr=1, betas=(0.5, 0.9))
    with pytest.raises(ValueError, match="is not a regular expression"):
        OptimizerSettings(lr=1, no_decay=["("])
