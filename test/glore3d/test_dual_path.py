"""Dual path networks against timm's, which are the authors' but for the last activation."""

import re

import pytest
import torch
from golden_weights import input_for, state_dict_for
from timm import create_model as create_timm_model
from timm.models.dpn import DPN

from glore3d.dual_path import DualPathBlock, dual_path_network, dual_path_stages
from models import create_model

PARTS = {"conv_m1": "c1x1_a", "conv_m2": "c3x3_b", "conv_m3": "c1x1_c"}


def timm_name(name):
    """timm's name of one of our entries."""
    if name.startswith(("conv1.", "tail.", "classifier.")):
        name = re.sub(r"^conv1\.", "features.conv1_1.", name)
        return re.sub(r"^tail\.", "features.conv5_bn_ac.", name)
    stage, block, part, rest = re.fullmatch(r"conv(\d)\.B(\d+)\.(conv_\w\d)\.(.+)", name).groups()
    part = PARTS.get(part) or f"c1x1_w_s{1 if stage == '2' else 2}"
    return f"features.conv{stage}_{int(block)}.{part}.{rest}"


def check_against_timm(ours, theirs, size):
    weights = state_dict_for({name: value.shape for name, value in ours.state_dict().items()})
    ours.load_state_dict(weights)
    weights["classifier.weight"] = weights["classifier.weight"][:, :, None, None]
    theirs.load_state_dict({timm_name(name): value for name, value in weights.items()})
    ours.double().eval(), theirs.double().eval()
    x = input_for((2, 3, *size)).double()
    with torch.inference_mode():
        logits = theirs(x)
        torch.testing.assert_close(ours(x), logits, rtol=0, atol=1e-10 * logits.std().item())
        expected = theirs.forward_intermediates(x, intermediates_only=True)[1:4]
        for found, level in zip(ours.forward_pyramid(x)[:3], expected, strict=True):
            torch.testing.assert_close(found, level, rtol=0, atol=1e-10 * level.std().item())


def test_a_small_network_equals_timms():
    sizes = {"k_sec": (1, 2, 2, 1), "inc_sec": (4, 4, 8, 16), "k_r": 16, "groups": 4, "num_init_features": 10}
    theirs = DPN(**sizes, num_classes=7, fc_act_layer="relu")
    stages = dual_path_stages((1, 2, 2, 1), (4, 4, 8, 16), width=16, num_sum=256, groups=4)
    check_against_timm(dual_path_network(10, stages, num_classes=7), theirs, (97, 70))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dpn98", "dpn131"])
def test_the_papers_networks_equal_timms(name):
    check_against_timm(create_model(name), create_timm_model(name, fc_act_layer="relu"), (64, 97))


def test_of_what_a_block_computes_some_is_added_and_some_appended():
    block = DualPathBlock(num_in=11, num_mid=4, num_sum=8, increment=2, groups=2).eval()
    x = torch.randn(1, 11, 5, 5)
    output = block(x)
    branch = block.conv_m3(block.conv_m2(block.conv_m1(x)))
    torch.testing.assert_close(output[:, :8], x[:, :8] + branch[:, :8])
    assert torch.equal(output[:, 8:11], x[:, 8:])
    torch.testing.assert_close(output[:, 11:], branch[:, 8:])
    assert output.shape[1] == block.num_out == 13


def test_a_unit_sees_both_paths_and_returns_to_each_by_its_own_way():
    with torch.device("meta"):
        model = create_model("glore_dpn98")
    unit = model.get_submodule("conv4.B05_extra")
    num_dense = 32 * (5 + 2)  # 3 increments after the first block, one more after each other
    assert unit.conv_proj.conv.weight.shape == (256, 1024 + num_dense, 1, 1)
    assert unit.conv_extend.residual.conv.weight.shape == (1024, 512, 1, 1)
    assert unit.conv_extend.dense.conv.weight.shape == (num_dense, 512, 1, 1)


def test_the_batch_norms_are_the_authors():
    model = create_model("glore_dpn_debug")
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-4}
    with torch.device("meta"):
        assert create_model("dpn98").tail.bn.eps == 1e-3
