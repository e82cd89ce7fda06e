"""Segmentation heads on made levels: shapes, gradients, and what their docstrings promise."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dense.fcn import FCNHead, GloReHead
from dense.layers import NORMS, ConvNormAct, build_norm
from dense.semantic_fpn import SemanticFPNHead
from dense.upernet import UPerHead, resize
from glore3d.unit import GloReUnit

CHANNELS = (8, 16, 24, 32)
SIZES = ((25, 31), (13, 16), (7, 8), (4, 4))  # of an image of 97 x 122, rounded up
HEADS = {
    "upernet": lambda **options: UPerHead(CHANNELS, 5, channels=16, **options),
    "fcn": lambda **options: FCNHead(CHANNELS, 5, channels=16, num_convs=2, **options),
    "semantic_fpn": lambda **options: SemanticFPNHead(CHANNELS, 5, channels=16, **options),
    "glore": lambda **options: GloReHead(
        CHANNELS, 5, channels=16, unit=lambda width: GloReUnit(width, 4, dim=2, normalize=True), **options
    ),
}
LEVEL = {"fcn": 2, "glore": 3}


def levels(batch: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(batch, number, *size) for number, size in zip(CHANNELS, SIZES, strict=True)]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", HEADS)
def test_heads_give_logits_and_train_every_parameter(name, norm):
    head = HEADS[name](norm=norm)
    for module in head.modules():
        if isinstance(module, GloReUnit):
            nn.init.ones_(module.blocker.weight)  # as new it is the identity, and its own layers get no gradient
    logits = head(levels())
    assert logits.shape == (2, 5, *SIZES[LEVEL.get(name, 0)])
    logits.square().sum().backward()
    assert [entry for entry, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []
    own = [entry for entry in head.state_dict() if entry.startswith(head.classifier_names)]
    assert own and all(head.state_dict()[entry].shape[0] == 5 for entry in own)


@pytest.mark.parametrize("name", HEADS)
def test_classifiers_start_without_a_preference(name):
    with torch.no_grad():
        logits = HEADS[name]().eval()(levels())
    assert logits.softmax(1).amax() < 0.9


def test_semantic_fpn_is_the_sum_of_its_enlarged_levels():
    head = HEADS["semantic_fpn"](dropout=0.0).eval()
    with torch.no_grad():
        parts = [resize(part(level), SIZES[0]) for part, level in zip(head.scale_heads, levels(), strict=True)]
        torch.testing.assert_close(head(levels()), head.conv_seg(sum(parts)))
    assert [len(part) for part in head.scale_heads] == [1, 2, 4, 6]


def test_the_pooled_level_sees_the_whole_map():
    """With the finest pooling alone, a change of one corner would not reach the opposite one."""
    head = HEADS["upernet"]().eval()
    *_, coarse = levels(1)
    changed = coarse.clone()
    changed[..., 0, 0] += 10
    with torch.no_grad():
        assert not torch.allclose(head.pool(coarse)[..., -1, -1], head.pool(changed)[..., -1, -1])


def test_unknown_norms_are_named():
    with pytest.raises(ValueError, match="norm is 'layer'; expected one of batch, group, frozen"):
        build_norm("layer", 8)


def test_group_norm_takes_any_number_of_channels():
    for number in (8, 16, 24, 32, 48, 512, 7):
        _, norm = build_norm("group", number)
        assert number % norm.num_groups == 0 and norm.num_groups <= 32


def test_a_frozen_norm_takes_the_weights_of_a_batch_norm_and_keeps_them():
    batch, frozen = ConvNormAct(3, 8, 3, "batch"), ConvNormAct(3, 8, 3, "frozen")
    nn.init.normal_(batch.bn.running_mean)
    frozen.load_state_dict(batch.state_dict())
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(frozen.train()(x), batch.eval()(x))
    assert sorted(dict(frozen.named_parameters())) == ["conv.weight"]


def test_a_convolution_without_norm_has_a_bias():
    layer = ConvNormAct(3, 8, 3)
    x = torch.randn(1, 3, 6, 5)
    torch.testing.assert_close(layer(x), F.relu(F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1)))
    assert (ConvNormAct(3, 8, activation=False)(x) < 0).any()
