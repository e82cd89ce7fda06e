"""GLNet against the authors' numbers, its parts against their formulas, and token labeling's cutmix."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_networks import check_entries, check_numbers, slow_or_weekly
from torch import nn

from backbones import glnet, glnet_blocks
from backbones.glnet import (
    Box,
    TokenLabelGLNet,
    glnet_debug,
    glnet_stages,
    random_box,
    swap_with_partner,
)
from backbones.glnet_blocks import AttentionBlock, GLMixBlock, MultiheadAttention, ResidualDepthwiseConv

NAMES = [f"glnet_{size}" for size in ("4g", "9g", "16g", "stl", "stl_paramslot", "4g_tklb", "9g_tklb")]


def compare(name, with_gradients):
    def as_authors(part, feature):
        """They keep tokens [B, N, C] in the last stage of "stl" and for token labels, where we keep maps."""
        if part == "tklb_aux_head":
            return feature.flatten(1, 2)
        if "stl" in name and part.startswith("stages.3.blocks") and feature.dim() == 4:
            return feature.flatten(2).mT
        return feature

    check_numbers(name, getattr(glnet, name), with_gradients, as_authors)


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_entries_and_operations_equal_the_authors(name):
    check_entries(name, getattr(glnet, name))


@pytest.mark.slow
def test_4g_equals_the_authors():
    compare("glnet_4g", with_gradients=False)


@pytest.mark.parametrize("name", slow_or_weekly(NAMES, weekly={"glnet_16g"}))
def test_every_number_equals_the_authors(name):
    compare(name, with_gradients=True)


def test_attention_equals_that_of_torch():
    ours, theirs = MultiheadAttention(64), nn.MultiheadAttention(64, num_heads=2, batch_first=True)
    nn.init.normal_(theirs.in_proj_bias)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 10, 64)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])


def test_residual_convolution():
    conv = ResidualDepthwiseConv(6)
    x = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(conv(x), x + F.conv2d(x, conv.weight, conv.bias, padding=1, groups=6))


@pytest.mark.parametrize("learned_slots", [True, False])
def test_global_branch_by_the_papers_formula(learned_slots):
    block = GLMixBlock(32, learned_slots=learned_slots).double()
    x = torch.randn(2, 32, 6, 9, dtype=torch.float64)
    slots = torch.randn(1 if learned_slots else 2, 64, 32, dtype=torch.float64)
    pixels = x.flatten(2).mT
    logits = block.slot_scale * F.normalize(slots, dim=-1) @ F.normalize(pixels, dim=-1).mT
    grouped = block.relation_mha(logits.softmax(-1) @ pixels)
    expected = (logits.softmax(1).mT @ grouped).mT.unflatten(2, (6, 9))
    torch.testing.assert_close(block.mix_globally(x, slots), expected)


def test_slots_are_averages_of_the_input():
    """On a map whose 8 x 8 regions are constant, the slots are exactly those constants."""
    block = GLMixBlock(32)
    regions = torch.randn(1, 32, 8, 8)
    seen = {}
    block.mix_globally = lambda x, slots: seen.update(slots=slots) or torch.zeros_like(x)
    block(regions.repeat_interleave(3, 2).repeat_interleave(2, 3))
    torch.testing.assert_close(seen["slots"], regions.flatten(2).mT)


@pytest.mark.parametrize("size", [(32, 32), (33, 95), (64, 40)])
def test_any_image_from_32_on(size):
    model = glnet_debug(5).eval()
    features = model.forward_features(torch.randn(2, 3, *size))
    assert features.shape == (2, 256, -(-size[0] // 32), -(-size[1] // 32))
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)


def test_maps_lie_channels_last_throughout():
    model = glnet_debug(5).eval()
    outputs = {}
    for name, module in model.named_modules():
        if isinstance(module, (GLMixBlock, AttentionBlock, ResidualDepthwiseConv)):
            module.register_forward_hook(lambda module, args, output, name=name: outputs.update({name: output}))
    model(torch.randn(2, 3, 96, 64))
    assert len(outputs) == 10
    for name, output in outputs.items():
        assert output.is_contiguous(memory_format=torch.channels_last), name


@pytest.mark.parametrize("shape", [(1, 3, 31, 64), (1, 1, 64, 64), (3, 64, 64)])
def test_errors_for_small_images_state_the_minimum(shape):
    message = f"RGB images [B, 3, H, W] of at least H x W = 32 x 32, not {list(shape)}"
    with pytest.raises(ValueError, match=re.escape(message)):
        glnet_debug()(torch.zeros(shape))


def test_new_classifiers():
    model = token_label_network(5).double()
    model.reset_classifier(7)
    assert model.head.weight.shape == model.tklb_aux_head.weight.shape == (7, 256)
    assert model.eval()(torch.randn(1, 3, 32, 32, dtype=torch.float64)).shape == (1, 7)
    with pytest.raises(ValueError, match="num_classes must be 0 or more, not -1"):
        model.reset_classifier(-1)


def test_blocks_are_dropped_more_and_more_often():
    first, *others = [block.drop_path for stage in glnet_debug(drop_path=0.4).stages for block in stage.blocks]
    assert isinstance(first, nn.Identity)
    assert [module.drop_prob for module in others] == pytest.approx([0.1, 0.2, 0.3, 0.4])


def token_label_network(num_classes):
    return TokenLabelGLNet(glnet_stages(32, (1, 1, 1, 1)), num_classes=num_classes)


def test_boxes_follow_the_rule_of_token_labeling():
    for seed in range(200):
        torch.manual_seed(seed)
        share, row, column = torch.rand(()).item(), int(torch.randint(7, ())), int(torch.randint(9, ()))
        height, width = int(7 * np.sqrt(1 - share)), int(9 * np.sqrt(1 - share))
        expected = Box(
            top=np.clip(row - height // 2, 0, 7),
            left=np.clip(column - width // 2, 0, 9),
            bottom=np.clip(row + height // 2, 0, 7),
            right=np.clip(column + width // 2, 0, 9),
        )
        torch.manual_seed(seed)
        assert random_box(7, 9) == expected


def test_swapping_twice_changes_nothing():
    x = torch.arange(4 * 5 * 6.0).view(4, 1, 5, 6)
    box = Box(top=1, left=2, bottom=3, right=6)
    swapped = swap_with_partner(x, box)
    assert torch.equal(swapped[0, 0, 1:3, 2:6], x[3, 0, 1:3, 2:6])
    assert torch.equal(swapped[0, 0, 3:], x[0, 0, 3:])
    assert torch.equal(swap_with_partner(swapped, box), x)


@pytest.mark.parametrize("box", [Box(0, 1, 2, 3), Box(0, 0, 0, 0), Box(0, 0, 2, 3)])
def test_token_labeling_mixes_images_and_unmixes_tokens(box, monkeypatch):
    monkeypatch.setattr(glnet, "random_box", lambda height, width: box if (height, width) == (2, 3) else None)
    inside = torch.zeros(2, 3, dtype=torch.bool)
    inside[box.top : box.bottom, box.left : box.right] = True
    model = token_label_network(5).train()
    images = torch.randn(4, 3, 64, 96)
    logits, token_logits, returned = model(images)

    x = model.forward_stem(images)
    x = torch.where(inside.repeat_interleave(8, 0).repeat_interleave(8, 1), x.flip(0), x)
    x = model.forward_stages(x)
    torch.testing.assert_close(logits, model.head(x.mean((2, 3))))
    x = torch.where(inside, x.flip(0), x)
    torch.testing.assert_close(token_logits, model.tklb_aux_head(x.flatten(2).mT))
    assert returned == box


def test_token_labeling_in_evaluation():
    model = token_label_network(5).eval()
    images = torch.randn(2, 3, 64, 96)
    tokens = model.forward_features(images).flatten(2).mT
    expected = model.head(tokens.mean(1)) + 0.5 * model.tklb_aux_head(tokens).max(1).values
    torch.testing.assert_close(model(images), expected)


def test_share_that_is_mixed_in():
    """Half of the grid on average, were boxes not cut off at its border; a side s keeps s - s^2 / 4 of the grid's."""
    torch.manual_seed(0)
    boxes = [random_box(1000, 1000) for _ in range(4000)]
    share = np.mean([(box.bottom - box.top) * (box.right - box.left) for box in boxes]) / 1e6
    side = np.sqrt(np.linspace(0, 1, 10001))
    assert share == pytest.approx(np.mean((side - side**2 / 4) ** 2), abs=0.01)


@pytest.mark.parametrize("layer_scale", [None, 0.5])
@pytest.mark.parametrize("make_block", [GLMixBlock, AttentionBlock])
def test_inference_in_parts_and_in_place_is_the_whole_block(make_block, layer_scale, monkeypatch):
    torch.manual_seed(0)
    block = make_block(32, layer_scale=layer_scale).eval()
    x = torch.randn(3, 32, 9, 11).contiguous(memory_format=torch.channels_last)
    expected = block(x).detach()
    for limit in (1, 2 * 9 * 11 * 96, 2**20):
        monkeypatch.setattr(glnet_blocks, "CACHED_VALUES", limit)
        before = x.clone()
        with torch.inference_mode():
            torch.testing.assert_close(block(x), expected)
        assert torch.equal(x, before)
    with torch.inference_mode():
        assert block(x[:0]).shape == (0, 32, 9, 11)
