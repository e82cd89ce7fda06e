"""The neck against its equation and torchvision's, at odd sizes and any strides."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from dense.fpn import FPN

CHANNELS, STRIDES = (4, 6, 8), (4, 8, 16)


def maps_of(sizes=((25, 31), (13, 15), (6, 8))) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, channels, *size) for channels, size in zip(CHANNELS, sizes, strict=True)]


def test_the_neck_is_torchvisions_with_a_pooled_level():
    neck = FPN(CHANNELS, STRIDES, num_channels=5, num_levels=4)
    other = FeaturePyramidNetwork(CHANNELS, 5, LastLevelMaxPool())
    names = {f"{ours}.{i}.conv.": f"{theirs}.{i}.0." for i in range(3) for ours, theirs in (
        ("lateral_convs", "inner_blocks"), ("fpn_convs", "layer_blocks"))}  # fmt: skip
    weights = neck.state_dict()
    for ours, theirs in names.items():
        weights = {name.replace(ours, theirs): tensor for name, tensor in weights.items()}
    other.load_state_dict(weights)
    maps = maps_of()
    expected = other(dict(enumerate(maps))).values()
    for found, wanted in zip(neck(maps), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_further_convolutions_start_from_the_last_input():
    neck = FPN(CHANNELS, STRIDES, num_channels=5, num_levels=5, extra="conv")
    assert neck.strides == (4, 8, 16, 32, 64)
    maps = maps_of()
    outputs = neck(maps)
    sixth = F.conv2d(maps[-1], neck.fpn_convs[3].conv.weight, neck.fpn_convs[3].conv.bias, stride=2, padding=1)
    torch.testing.assert_close(outputs[3], sixth)
    seventh = F.conv2d(sixth, neck.fpn_convs[4].conv.weight, neck.fpn_convs[4].conv.bias, stride=2, padding=1)
    torch.testing.assert_close(outputs[4], seventh)


def test_inputs_before_the_start_level_are_left_out():
    neck = FPN(CHANNELS, STRIDES, num_channels=5, num_levels=3, start_level=1)
    assert (neck.strides, neck.num_inputs) == ((8, 16, 32), 2)
    assert [tuple(x.shape) for x in neck(maps_of())] == [(2, 5, 13, 15), (2, 5, 6, 8), (2, 5, 3, 4)]


def test_levels_of_one_size_are_added_as_they_are():
    neck = FPN(CHANNELS, (4, 8, 8), num_channels=5, num_levels=4)
    assert neck.strides == (4, 8, 8, 16)
    assert [tuple(x.shape[2:]) for x in neck(maps_of(((25, 31), (13, 15), (13, 15))))] == [
        (25, 31),
        (13, 15),
        (13, 15),
        (7, 8),
    ]


def test_norms_replace_biases():
    neck = FPN(CHANNELS, STRIDES, num_channels=32, num_levels=5, extra="conv", norm="group")
    assert "lateral_convs.0.gn.weight" in neck.state_dict()
    assert "fpn_convs.4.gn.weight" in neck.state_dict()
    assert "lateral_convs.0.conv.bias" not in neck.state_dict()


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="makes 2 levels, fewer than its 3 inputs"):
        FPN(CHANNELS, STRIDES, num_levels=2)
    with pytest.raises(ValueError, match="extra is 'none'; expected 'pool' or 'conv'"):
        FPN(CHANNELS, STRIDES, extra="none")
