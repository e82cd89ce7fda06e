"""Pre-activation ResNets: against timm's, against their operators written out, and as a start of the 3-D ones."""

import pytest
import torch
from golden_weights import input_for, state_dict_for
from timm.layers import BatchNormAct2d
from timm.models.resnetv2 import ResNetV2
from torch import nn
from torch.nn import functional as F

from glore3d import inflate_weights
from glore3d.resnet2d import resnet, resnet_stages
from models import create_model, load_pretrained


def with_weights(model):
    model.load_state_dict(state_dict_for({name: value.shape for name, value in model.state_dict().items()}))
    return model.double().eval()


def timm_names(weights):
    """Our weights as those of timm's ResNetV2. Its shortcut shares the norm of the first convolution."""
    parts = {
        "conv_m1.conv": "conv1",
        "conv_m2.conv": "conv2",
        "conv_m3.conv": "conv3",
        "conv_w1.conv": "downsample.conv",
    }
    parts |= {"conv_m1.bn": "norm1", "conv_m2.bn": "norm2", "conv_m3.bn": "norm3"}
    renamed = {"stem.conv.weight": weights["conv1.conv.weight"]}
    for name, value in weights.items():
        first, *middle, leaf = name.split(".")
        if first == "tail":
            renamed[f"norm.{leaf}"] = value
        elif first == "classifier":
            renamed[f"head.fc.{leaf}"] = value[:, :, None, None] if leaf == "weight" else value
        elif middle and (part := parts.get(".".join(middle[1:]))):
            renamed[f"stages.{int(first[-1]) - 2}.blocks.{int(middle[0][1:]) - 1}.{part}.{leaf}"] = value
    return renamed


def check_against_timm(ours, theirs, size):
    """timm's network has no norm and ReLU in its stem, and one norm for both ways through a block."""
    with_weights(ours)
    ours.conv1.bn = ours.conv1.relu = nn.Identity()
    for name, block in ours.named_modules():
        if name.endswith("conv_w1") and not isinstance(block, nn.Identity):
            block.bn = ours.get_submodule(name.replace("conv_w1", "conv_m1.bn"))
    theirs.load_state_dict(timm_names(ours.state_dict()))
    theirs.double().eval()
    x = input_for((2, 3, *size)).double()
    with torch.inference_mode():
        expected = theirs.forward_intermediates(x, intermediates_only=True)[1:4]
        for found, level in zip(ours.forward_pyramid(x)[:3], expected, strict=True):
            torch.testing.assert_close(found, level, rtol=0, atol=1e-10 * level.std().item())
        logits = theirs(x)
        torch.testing.assert_close(ours(x), logits, rtol=0, atol=1e-10 * logits.std().item())


def test_a_small_network_equals_timms():
    ours = resnet(resnet_stages(1, 2, 2, 1, width=8), num_classes=7, eps=1e-5, stem_width=16)
    options = {"channels": (32, 64, 128, 256), "num_classes": 7, "stem_chs": 16, "norm_layer": BatchNormAct2d}
    check_against_timm(ours, ResNetV2((1, 2, 2, 1), conv_layer=padded_conv, **options), (97, 70))


def padded_conv(num_in, num_out, kernel_size, **options):
    return nn.Conv2d(num_in, num_out, kernel_size, padding=kernel_size // 2, bias=False, **options)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [50, 101])
def test_the_papers_depths_equal_timms(depth):
    from timm import create_model as create_timm_model

    check_against_timm(
        create_model(f"preact_resnet{depth}", eps=1e-5), create_timm_model(f"resnetv2_{depth}"), (64, 97)
    )


def direct(weights, x, num_blocks, groups):
    """Logits from a state dict alone, operator by operator; block names come from `num_blocks`."""

    def norm(name, x):
        values = [weights[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *values, eps=1e-4).relu()

    def step(name, x, **options):
        return F.conv2d(norm(f"{name}.bn", x), weights[f"{name}.conv.weight"], **options)

    x = F.conv2d(x, weights["conv1.conv.weight"], stride=2, padding=2)
    x = F.max_pool2d(norm("conv1.bn", x), 3, stride=2, padding=1)
    for stage, number in zip((2, 3, 4, 5), num_blocks, strict=True):
        for block in (f"conv{stage}.B{i + 1:02d}" for i in range(number)):
            stride = 2 if block.endswith("B01") and stage > 2 else 1
            branch = step(f"{block}.conv_m2", step(f"{block}.conv_m1", x), stride=stride, padding=1, groups=groups)
            branch = step(f"{block}.conv_m3", branch)
            fc1, fc2 = (weights[f"{block}.squeeze.{name}.weight"][:, :, 0, 0] for name in ("fc1", "fc2"))
            gate = (branch.mean((2, 3)) @ fc1.T + weights[f"{block}.squeeze.fc1.bias"]).relu()
            gate = (gate @ fc2.T + weights[f"{block}.squeeze.fc2.bias"]).sigmoid()
            shortcut = step(f"{block}.conv_w1", x, stride=stride) if block.endswith("B01") else x
            x = shortcut + branch * gate[:, :, None, None]
    return norm("tail.bn", x).mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"]


def test_groups_and_squeeze_and_excitation_are_where_they_belong():
    stages = resnet_stages(1, 2, 2, 1, width=16, expansion=2, groups=4, squeeze=True)
    model = with_weights(resnet(stages, num_classes=5, lite_stem=True))
    x = input_for((2, 3, 64, 70)).double()
    torch.testing.assert_close(model(x), direct(model.state_dict(), x, (1, 2, 2, 1), 4), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "name, options, num_units, num_parameters",
    [
        ("glore_resnet50", {}, 5, 31_314_216),
        ("glore_resnet50", {"units": {"conv4": (1, 3, 5)}}, 3, 30_488_360),
        ("glore_resnet101", {}, 5, 50_306_344),
        ("glore_resnet200", {"units": {"conv4": (16, 24, 32)}}, 3, 69_605_160),
        ("glore_se_resnet50", {}, 3, 33_019_352),
    ],
)
def test_units_have_as_many_nodes_as_a_block_has_inner_channels(name, options, num_units, num_parameters):
    with torch.device("meta"):
        model = create_model(name, **options)
    assert len(model.unit_names) == num_units
    for unit in model.unit_names:
        assert model.get_submodule(unit).conv_proj.conv.out_channels == {"conv3": 128, "conv4": 256}[unit[:5]]
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters


def test_resnext_has_wider_blocks_in_groups_of_four_channels_and_units_as_large_as_those_of_resnet():
    with torch.device("meta"):
        model = create_model("glore_resnext101_32x4d")
    assert model.conv2.B01.conv_m2.conv.weight.shape == (128, 4, 3, 3)
    assert model.conv4.B18_extra.conv_proj.conv.weight.shape == (256, 1024, 1, 1)


def test_a_lite_network_is_what_a_3d_network_starts_from(tmp_path):
    image = create_model("preact_resnet_debug", num_classes=5)
    torch.save(image.state_dict(), tmp_path / "image.pth")
    clips = create_model("glore_resnet_debug_3d", num_classes=5)
    report = load_pretrained(clips, tmp_path / "image.pth")
    assert report.missing and all(name.startswith(tuple(clips.unit_names)) for name in report.missing)
    assert not report.unexpected and not report.mismatched
    kernel = image.conv3.B01.conv_m1.conv.weight
    torch.testing.assert_close(clips.conv3.B01.conv_m1.conv.weight.sum(2), kernel)
    with torch.device("meta"):
        lite = create_model("preact_resnet50", lite_stem=True, num_classes=400).state_dict()
        full = create_model("resnet50_3d").state_dict()
    assert lite.keys() == full.keys()
    lite, _ = inflate_weights(lite, {name: value.shape for name, value in full.items()})
    assert all(value.shape == full[name].shape for name, value in lite.items())
