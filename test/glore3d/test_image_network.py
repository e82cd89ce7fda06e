"""What all image networks share: sizes, dilation, layers, errors."""

from functools import partial

import pytest
import torch
from golden_weights import state_dict_for

from glore3d import GloReUnit, ImageNetwork
from glore3d.resnet2d import resnet, resnet_stages
from models import create_model

DEBUG = ["preact_resnet_debug", "glore_resnet_debug", "glore_dpn_debug"]


def with_weights(model):
    model.load_state_dict(state_dict_for({name: value.shape for name, value in model.state_dict().items()}))
    return model.double().eval()


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("name", DEBUG)
def test_the_last_stages_keep_their_size_where_they_are_dilated(name, output_stride):
    model = create_model(name, num_classes=0, output_stride=output_stride).eval()
    with torch.inference_mode():
        maps = model.forward_pyramid(torch.randn(1, 3, 97, 64))
    assert model.pyramid_strides == tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))
    for level, channels, stride in zip(maps, model.pyramid_channels, model.pyramid_strides, strict=True):
        assert level.shape == (1, channels, -(-97 // stride), -(-64 // stride))


@pytest.mark.parametrize("stem_stride", [1, 2])
@pytest.mark.parametrize("name", ["glore_resnet_debug", "glore_dpn_debug"])
def test_a_stem_of_a_smaller_stride_keeps_weights_and_makes_larger_maps(name, stem_stride):
    model, whole = create_model(name, 5, stem_stride=stem_stride).double().eval(), create_model(name, 5)
    model.load_state_dict(whole.state_dict())
    x = torch.randn(2, 3, 8 * stem_stride, 45, dtype=torch.float64)
    with torch.inference_mode():
        maps = model.forward_pyramid(x)
        assert model(x).shape == (2, 5)
    assert model.pyramid_strides == tuple(stem_stride << i for i in range(4))
    for level, stride in zip(maps, model.pyramid_strides, strict=True):
        assert level.shape[2:] == (8 * stem_stride // stride, -(-45 // stride))
    with pytest.raises(ValueError, match=f"at least H x W = {8 * stem_stride} x {8 * stem_stride}, not"):
        model(torch.randn(1, 3, 64, 8 * stem_stride - 1))


def test_a_stem_of_stride_2_returns_what_the_other_pools():
    fine, whole = (with_weights(create_model("glore_resnet_debug", stem_stride=stride)) for stride in (2, 4))
    x = torch.randn(2, 3, 33, 45, dtype=torch.float64)
    with torch.inference_mode():
        assert torch.equal(torch.nn.functional.max_pool2d(fine.conv1(x), 3, 2, 1), whole.conv1(x))


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name, options", [("preact_resnet_debug", {}), ("glore_dpn_debug", {"units": {}})])
def test_a_dilated_network_computes_the_strided_ones_map_in_between(name, options, output_stride):
    """At every stride-th row and column the numbers are the same: no weight is for one of them only."""
    dilated = with_weights(create_model(name, 0, output_stride=output_stride, **options))
    strided = with_weights(create_model(name, 0, **options))
    x = torch.randn(2, 3, 100, 77, dtype=torch.float64)
    with torch.inference_mode():
        levels = zip(dilated.forward_pyramid(x), strided.forward_pyramid(x), strict=True)
        steps = [32 // output_stride if i == 3 else max(1, 16 // output_stride) if i == 2 else 1 for i in range(4)]
        for (dense, coarse), step in zip(levels, steps, strict=True):
            torch.testing.assert_close(dense[..., ::step, ::step], coarse, rtol=0, atol=1e-10)


def test_a_classifier_sees_the_mean_of_the_last_map():
    model = with_weights(create_model("glore_resnet_debug", num_classes=5))
    x = torch.randn(2, 3, 64, 70, dtype=torch.float64)
    features = model.forward_features(x)
    assert features.min() == 0 and torch.equal(features, model.forward_pyramid(x)[-1])
    torch.testing.assert_close(model(x), model.classifier(features.mean((2, 3))))
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), features.mean((2, 3)))


def test_the_published_unit_can_take_the_place_of_the_image_networks_own():
    model = create_model("glore_resnet_debug", units={"conv4": (2,)}, unit=partial(GloReUnit, dim=2, normalize=True))
    unit = model.get_submodule("conv4.B02_extra")
    assert isinstance(unit, GloReUnit) and model.unit_names == ["conv4.B02_extra"]
    assert (unit.num_in, unit.gcn.conv1.in_channels, unit.normalize) == (128, 32, True)


def test_normalize_reaches_every_unit():
    for name in ("glore_resnet_debug", "glore_dpn_debug"):
        model = create_model(name, normalize=True)
        assert all(model.get_submodule(unit).normalize for unit in model.unit_names)


def test_every_block_is_a_layer_with_the_unit_after_it():
    model = create_model("glore_resnet_debug")
    assert model.num_layers == 7
    layers = {"conv1.bn.weight": 0, "conv2.B01.conv_m1.bn.weight": 1, "conv3.B02.conv_m3.conv.weight": 3}
    layers |= {"conv3.B01_extra.conv_proj.conv.weight": 2, "conv5.B01.conv_w1.bn.bias": 6, "tail.bn.bias": 7}
    assert {name: model.layer_of(name) for name in layers} == layers


def test_dropout_is_of_the_pooled_features():
    assert create_model("glore_dpn_debug", dropout=0.25).globalpool.dropout.p == 0.25


def test_wrong_settings_and_images_are_named():
    with pytest.raises(ValueError, match="output_stride must be 32, 16 or 8, not 4"):
        create_model("preact_resnet_debug", output_stride=4)
    with pytest.raises(ValueError, match="stem_stride must be 4, 2 or 1, not 3"):
        create_model("glore_dpn_debug", stem_stride=3)
    with pytest.raises(ValueError, match="conv4 has blocks 1 to 2; no unit can follow block 3"):
        create_model("glore_resnet_debug", units={"conv4": (3,)})
    with pytest.raises(ValueError, match="num_classes must be 0 or more, not -1"):
        create_model("glore_dpn_debug", num_classes=-1)
    model = resnet(resnet_stages(1, 1, 1, 1, width=8))
    assert isinstance(model, ImageNetwork)
    for shape in [(1, 3, 31, 64), (1, 1, 64, 64), (3, 64, 64)]:
        with pytest.raises(ValueError, match=r"RGB images \[B, 3, H, W\] of at least H x W = 32 x 32, not \["):
            model(torch.randn(shape))
