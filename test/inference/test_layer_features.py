"""Features of any module, of every family."""

import re

import pytest
import torch

from backbones import PerFrame
from inference.layer_features import LayerFeatures
from models import create_model, model_info
from settings import SettingsError

CASES = [  # network, applied per frame, a module, its channels
    ("glore_resnet_debug_3d", False, "conv4", 128),
    ("glore_resnet_debug_3d", False, "conv3.B01.conv_m1.bn", None),  # an in-place ReLU follows, as in the next two
    ("timm/test_resnet", True, "network.network.layer1.0.bn1", None),
    ("torchvision/shufflenet_v2_x0_5", False, "network.conv1.1", None),
    ("eurnet_debug", False, "stages.1.blocks.0.ffn.fc1", None),  # whose block takes one sample at a time in inference
    ("eurnet_debug_video", False, "stages.1.blocks.0", None),
    ("hornet_debug_gf", False, "stages.2.0.pwconv1", None),  # whose block takes parts of the map
    ("hornet_debug_7x7", True, "network.stages.3", 128),
    ("glnet_debug", False, "stages.1", None),
    ("eat_debug", False, "blocks.0", None),
    ("eat_debug", True, "network.blocks.0", None),
    ("timm/test_resnet", True, "network.network.layer3", 192),
    ("timm/test_vit", False, "network.blocks.2", 64),
    ("torchvision/shufflenet_v2_x0_5", False, "network.conv5", 1024),
]


def network(name, per_frame):
    torch.manual_seed(0)
    model = create_model(name, num_classes=5)
    return (PerFrame(model) if per_frame else model).eval()


def views_for(name, per_frame, number=3):
    shape = model_info(name).input_shape
    shape = (3, 2, *shape[1:]) if per_frame else shape
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "per_frame", "layer", "channels"), CASES)
def test_a_module_gives_what_it_returns_for_the_whole_batch(name, per_frame, layer, channels):
    views = views_for(name, per_frame)
    kept = []
    model = network(name, per_frame).requires_grad_(False)
    model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: kept.append(output.clone()))
    model(views)  # in grad mode: blocks take whole batches
    maps = LayerFeatures(network(name, per_frame), layer, "none")
    pooled = LayerFeatures(network(name, per_frame), layer)
    with torch.no_grad():
        found, mean = maps(views), pooled(views)
    torch.testing.assert_close(found.flatten(), kept[0].flatten())
    assert len(found) == len(views)
    axis = pooled.channel_axis(kept[0].dim())
    own_mean = kept[0].movedim(axis, 1).flatten(2).mean(2) if kept[0].dim() > 2 else kept[0]
    torch.testing.assert_close(mean, own_mean.unflatten(0, (len(views), -1)).mean(1))
    if channels is not None:
        assert mean.shape == (len(views), channels)


@pytest.mark.parametrize(("name", "per_frame"), sorted({case[:2] for case in CASES}))
def test_the_pooled_features_are_what_the_classifier_sees(name, per_frame):
    views = views_for(name, per_frame)
    model = network(name, per_frame)
    seen = []
    classifier = dict(model.named_modules())[model.classifier_names[0].rstrip(".")]
    classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model(views)
        features = LayerFeatures(network(name, per_frame))(views)
    assert features.shape == (len(views), model.num_features)
    torch.testing.assert_close(features, seen[0].flatten(1).unflatten(0, (len(views), -1)).mean(1))


def test_channels_are_found_or_named():
    assert LayerFeatures(network("hornet_debug_gf", False), "stages.0").channel_axis(4) == 1
    assert LayerFeatures(network("hornet_debug_gf", False), "norm").channel_axis(4) == -1
    assert LayerFeatures(network("eurnet_debug", False), "stages.0").channel_axis(4) == -1
    assert LayerFeatures(network("eurnet_debug", False), "stages.0", channels="first").channel_axis(4) == 1
    with torch.device("meta"):
        swins = {"layers.1": create_model("timm/swin_tiny_patch4_window7_224"),
                 "features.3": create_model("torchvision/swin_t")}  # fmt: skip
    for layer, swin in swins.items():
        assert LayerFeatures(swin, f"network.{layer}").channel_axis(4) == -1
    assert LayerFeatures(network("eat_debug", False), "blocks.0").channel_axis(3) == -1


@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        ("glore_resnet_debug_3d", "conv44", "has no module 'conv44'; did you mean 'conv4'"),
        ("glore_resnet_debug_3d", "nothing_like_it", "its outermost are conv1, "),
        ("eurnet_debug", "stages.0.graph_construction_model", "returns GridGraph, not one tensor"),
        ("eurnet_debug", "stages.0.blocks.0.graph_conv.linear", "does not run in a forward pass; choose a module"),
    ],
)
def test_modules_without_features_are_explained(name, layer, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        LayerFeatures(network(name, False), layer)(views_for(name, False))
