"""The 3-D ResNets against the authors' numbers, and what theirs cannot do: other clips, other units, other places."""

import re
from functools import partial

import pytest
import torch
from golden_networks import slow_or_weekly
from golden_weights import deviation, input_for, read_golden, state_dict_for
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from glore3d import (
    GloReUnit,
    ResNet3d,
    Stage,
    glore_resnet50_3d,
    glore_resnet101_3d,
    glore_resnet_debug_3d,
    resnet50_3d,
    resnet101_3d,
    resnet_debug_3d,
)
from glore3d.resnet3d import MaxPoolFrames

BUILDERS = {"glore_resnet50_3d": glore_resnet50_3d, "glore_resnet101_3d": glore_resnet101_3d}


def golden_model(name, multiply=True):
    golden = read_golden(name)
    weights = state_dict_for(golden["state_dict"])
    for entry, factor in golden["multiply"].items() if multiply else ():
        weights[entry] *= factor
    with torch.device("meta"):
        model = BUILDERS[name](golden["num_classes"])
    model.load_state_dict(weights, assign=True)
    return model.double().eval(), input_for(golden["input_shape"]).double(), golden


def check_outputs(name, with_gradients):
    """Logits and the features on the way (and gradients) equal the authors'."""
    model, clip, golden = golden_model(name)
    features = {}

    def keep(module, args, output, part):
        features[part] = output.detach()

    for part in golden["features"]:
        model.get_submodule(part).register_forward_hook(partial(keep, part=part))
    with torch.set_grad_enabled(with_gradients):
        logits = model(clip)
    assert deviation(logits, golden["output"]) < 2e-7
    assert logits.topk(5).indices.tolist() == golden["output_top5"]
    for part, values in golden["features"].items():
        feature = features[part]
        assert list(feature.shape) == golden["feature_shapes"][part]
        actual = torch.stack([feature.mean(), feature.std(), *feature.flatten()[:8]])
        assert (actual - torch.tensor(values)).abs().max() < 2e-7 * feature.std(), part
    if with_gradients:
        (logits * input_for(logits.shape, seed=1)).sum().backward()
        for entry, values in golden["grad"].items():
            grad = model.get_parameter(entry).grad
            actual = torch.stack([grad.norm(), *grad.flatten()[:4]])
            assert (actual - torch.tensor(values)).abs().max() < 2e-7 * values[0], entry


@pytest.mark.slow
def test_depth_50_equals_the_authors():
    check_outputs("glore_resnet50_3d", with_gradients=False)


@pytest.mark.parametrize("name", slow_or_weekly(BUILDERS, weekly={"glore_resnet101_3d"}))
def test_gradients_equal_the_authors(name):
    check_outputs(name, with_gradients=True)


@pytest.mark.parametrize("name", slow_or_weekly(BUILDERS, weekly={"glore_resnet101_3d"}))
def test_with_units_that_add_their_bias_only_the_logits_equal_the_authors(name):
    model, clip, golden = golden_model(name, multiply=False)
    for unit in model.unit_names:
        nn.init.zeros_(model.get_submodule(unit).blocker.weight)
    with torch.no_grad():
        assert deviation(model(clip), golden["blocker_zero"]["output"]) < 2e-7


@pytest.mark.parametrize("name", BUILDERS)
def test_operations_equal_the_authors(name):
    golden = read_golden(name)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        BUILDERS[name]().eval()(torch.empty(golden["input_shape"]))
    assert counter.get_total_flops() == golden["flops"]


def test_builders_differ_in_blocks_and_units_only():
    with torch.device("meta"):
        for glore, plain in [(glore_resnet50_3d(), resnet50_3d()), (glore_resnet101_3d(), resnet101_3d())]:
            assert len(glore.unit_names) == 5 and plain.unit_names == []
            assert [name for name in glore.state_dict() if "_extra." not in name] == list(plain.state_dict())


def test_new_units_change_nothing_yet():
    glore, plain = glore_resnet_debug_3d(7), resnet_debug_3d(7)
    plain.load_state_dict(glore.state_dict(), strict=False)
    clip = torch.randn(2, 3, 8, 64, 64)
    assert torch.equal(glore.eval()(clip), plain.eval()(clip))


@pytest.mark.parametrize("size", [(2, 32, 32), (3, 33, 65), (16, 64, 48), (8, 112, 80)])
def test_any_clip_that_the_strides_allow(size):
    model = glore_resnet_debug_3d(5)
    clip = torch.randn(2, 3, *size)
    assert model(clip).shape == (2, 5)
    time, height, width = size
    features = model.forward_features(clip)
    assert features.shape[2:] == (-(-time // 2), -(-height // 32), -(-width // 32))


def test_authors_networks_take_other_clips_too():
    with torch.device("meta"):
        model = glore_resnet50_3d().eval()
        for size in [(4, 160, 160), (8, 256, 256), (64, 224, 320), (2, 32, 32)]:
            assert model(torch.empty(1, 3, *size)).shape == (1, 400)


TOO_SMALL = [(1, 3, 1, 64, 64), (1, 3, 8, 31, 64), (1, 3, 8, 64, 16)]


@pytest.mark.parametrize("shape", [*TOO_SMALL, (1, 1, 8, 64, 64), (3, 8, 64, 64)])
def test_errors_for_small_clips_state_the_minimum(shape):
    message = f"RGB clips [B, 3, T, H, W] of at least T x H x W = 2 x 32 x 32, not {list(shape)}"
    with pytest.raises(ValueError, match=re.escape(message)):
        glore_resnet_debug_3d()(torch.zeros(shape))


def test_strides_decide_the_minimum():
    strides = [(1, 1, 1), (4, 2, 2), (2, 1, 1), (1, 2, 2)]
    model = ResNet3d([Stage(1, width=4, stride=stride, temporal_blocks=(1,)) for stride in strides], num_classes=3)
    assert model.min_size == (8, 16, 16)
    assert model(torch.randn(2, 3, 8, 16, 16)).shape == (2, 3)


def test_units_go_after_any_block_and_can_be_any_part():
    made = []

    def unit(num_in, num_mid):
        made.append((num_in, num_mid))
        return nn.Conv3d(num_in, num_in, 1)

    model = glore_resnet_debug_3d(5, units={"conv2": [1], "conv4": (2, 1), "conv5": {1}}, unit=unit)
    assert made == [(32, 8), (128, 32), (128, 32), (256, 64)]
    assert all(isinstance(model.get_submodule(name), nn.Conv3d) for name in model.unit_names)
    assert model(torch.randn(2, 3, 8, 32, 32)).shape == (2, 5)
    normalized = glore_resnet_debug_3d(5, unit=partial(GloReUnit, normalize=True))
    assert normalized.conv4.B01_extra.normalize


def test_misplaced_units_are_named():
    with pytest.raises(ValueError, match="no stage 'conv6'; units go into conv2, conv3, conv4, conv5"):
        glore_resnet_debug_3d(units={"conv6": (1,)})
    with pytest.raises(ValueError, match="conv3 has blocks 1 to 2; no unit can follow block 3"):
        glore_resnet_debug_3d(units={"conv3": (1, 3)})


def test_reset_classifier_keeps_type_and_features():
    model = resnet_debug_3d(5, dropout=0.5).double().eval()
    clip = torch.randn(2, 3, 4, 32, 32, dtype=torch.float64)
    features = model.forward_features(clip)
    model.reset_classifier(9)
    assert model(clip).shape == (2, 9)
    assert model.num_classes == 9
    assert torch.equal(model.forward_features(clip), features)
    with pytest.raises(ValueError, match="num_classes must be 0 or more, not -1"):
        model.reset_classifier(-1)


def test_dropout_acts_in_training_only():
    model = resnet_debug_3d(5, dropout=0.5)
    pooled = model.globalpool(torch.ones(1, 8, 2, 2, 2))
    assert set(pooled.flatten().tolist()) <= {0.0, 2.0}
    assert torch.equal(model.eval().globalpool(torch.ones(1, 8, 2, 2, 2)), torch.ones(1, 8, 1, 1, 1))


def test_layouts_agree():
    model = glore_resnet_debug_3d(5).eval()
    clip = torch.randn(2, 3, 8, 48, 48)
    logits = model(clip)
    last = model.to(memory_format=torch.channels_last_3d)(clip.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(logits, last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_frames_are_pooled_as_by_a_3d_pool(memory_format):
    """Bit for bit, ties and gradients included, and in the memory layout of the input."""
    ours = MaxPoolFrames(kernel_size=3, stride=2, padding=1)
    theirs = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
    clips = torch.randn(2, 5, 3, 9, 12).relu().contiguous(memory_format=memory_format)
    results = []
    for pool in (ours, theirs):
        x = clips.clone().requires_grad_()
        y = pool(x)
        (grad,) = torch.autograd.grad((y * torch.arange(1.0, y[0, 0].numel() + 1).view(y.shape[2:])).sum(), x)
        results.append((y, grad))
    for mine, other in zip(*results, strict=True):
        assert torch.equal(mine, other)
    assert results[0][0].is_contiguous(memory_format=memory_format)
