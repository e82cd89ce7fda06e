"""Grad-CAM: by hand on small linear networks, and on every family, for images, clips and frames of clips."""

import pytest
import torch
from torch import nn

from backbones import PerFrame
from explain.grad_cam import combine, grad_cam
from explain.layers import last_map_layer, map_layers, to_map
from models import MODELS, create_model, list_models, takes_images
from settings import SettingsError

LAST = {"eat": "norm", "glnet": "norm", "hornet": "stages.3", "eurnet": "stages.3"}
LAST |= {"glore": "tail", "resnet": "tail", "preact": "tail"}


class Linear(nn.Module):
    """A convolution, the mean over the map, a linear classifier without bias."""

    classifier_names, pyramid_strides = ("head.",), (4,)

    def __init__(self, dims: int):
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.conv = conv(3, 5, (*[1] * (dims - 2), 4, 4), stride=(*[1] * (dims - 2), 4, 4))
        self.head = nn.Linear(5, 7, bias=False)

    def forward_features(self, x):
        return self.conv(x)

    def forward(self, x):
        return self.head(self.forward_features(x).flatten(2).mean(2))


def sample(model, name):
    shape = MODELS[name].input_shape
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def networks():
    """Each debug network in eval mode with an input: images, clips, and clips for a network of images."""
    torch.manual_seed(0)
    made = {}
    for name in list_models("*debug*"):
        model = create_model(name, num_classes=6).eval()
        made[name] = model, sample(model, name)
        if takes_images(name) and "tklb" not in name:
            clip = torch.randn(1, 3, 2, 64, 64, generator=torch.Generator().manual_seed(1))
            made[f"{name} per frame"] = PerFrame(model), clip
    return made


@pytest.mark.parametrize("kind", ["image", "clip", "frames"])
def test_it_equals_a_computation_by_hand(kind):
    torch.manual_seed(0)
    model = Linear(3) if kind == "clip" else Linear(2)
    x = torch.randn(1, 3, *([2] if kind != "image" else []), 16, 24)
    frames = x[:, :, None] if kind == "image" else x  # [1, 3, T, H, W]
    conv = model.conv
    weight = conv.weight if kind != "clip" else conv.weight[:, :, 0]
    maps = nn.functional.conv2d(frames[0].transpose(0, 1), weight, conv.bias, stride=4).transpose(0, 1)  # [C, T, h, w]
    # The logit is the mean over all N positions, weighted by the classifier: its gradient is weight / N everywhere.
    expected = torch.einsum("c,cthw->thw", model.head.weight[3] / maps[0].numel(), maps).relu()
    found = grad_cam(PerFrame(model) if kind == "frames" else model, x, label=3)
    assert found.layer == "conv" and found.label == 3
    torch.testing.assert_close(found.values, expected.detach())


def test_classes_of_several_labels_have_probabilities_of_their_own():
    model, x = Linear(2).eval(), torch.randn(1, 3, 8, 8)
    logits = model(x)[0].detach()
    torch.testing.assert_close(grad_cam(model, x).probabilities, logits.softmax(0))
    torch.testing.assert_close(grad_cam(model, x, multi_label=True).probabilities, logits.sigmoid())


def test_weights_are_means_over_a_clip_or_over_each_frame():
    activation, gradient = torch.rand(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    whole, each = combine(activation, gradient, True), combine(activation, gradient, False)
    for t in range(3):
        of_frame = combine(activation[:, t : t + 1], gradient[:, t : t + 1], True)
        torch.testing.assert_close(each[t : t + 1], of_frame)
    assert not torch.allclose(whole, each)


def test_every_network_has_a_map_of_its_last_layer(networks):
    for name, (model, x) in networks.items():
        before = [parameter.requires_grad for parameter in model.parameters()]
        with torch.no_grad():
            logits = model(x)[0]
        found = grad_cam(model, x)
        assert found.layer == LAST[name.split("_")[0]], name
        assert found.values.shape == model.forward_pyramid(x)[-1].shape[2:] or x.dim() == 4
        assert found.label == int(logits.argmax()) and found.values.min() >= 0 and not found.values.requires_grad
        torch.testing.assert_close(found.probabilities, logits.softmax(0), rtol=1e-4, atol=1e-5)
        assert [parameter.requires_grad for parameter in model.parameters()] == before, name
        assert all(parameter.grad is None for parameter in model.parameters())


def test_the_gradient_is_that_of_the_whole_network(networks):
    """As autograd gives it without any of the savings."""
    for name in ("glore_resnet_debug_3d", "eurnet_debug_video", "hornet_debug_gf", "eat_debug", "glnet_debug"):
        model, x = networks[name]
        for label in (0, 5):
            found, outputs = grad_cam(model, x, label), []
            layer = model.get_submodule(found.layer)
            handle = layer.register_forward_hook(lambda module, inputs, output, outputs=outputs: outputs.append(output))
            (gradient,) = torch.autograd.grad(model(x)[0, label], outputs)
            handle.remove()
            maps = [to_map(model, found.layer, part, x.shape[-2:]) for part in (outputs[0], gradient)]
            expected = combine(*maps, frames_share=True).detach()
            torch.testing.assert_close(found.values, expected, rtol=1e-3, atol=1e-6)


def test_maps_of_stages_are_those_of_the_pyramid(networks):
    stages = {
        "eurnet_debug_video": [None, None, None, "stages.3"],  # the others end with patch merging
        "hornet_debug_gf": ["stages.0", "stages.1", "stages.2", "stages.3"],
        "glnet_debug": ["stages.0", "stages.1", "stages.2", "stages.3"],
        "glore_resnet_debug_3d": ["conv2", "conv3", "conv4", "tail"],
        "eat_debug": ["norm"],
    }
    for name, layers in stages.items():
        model, x = networks[name]
        shapes = map_layers(model, x)
        with torch.no_grad():
            pyramid = model.forward_pyramid(x)
        for layer, level in zip(layers, pyramid, strict=True):
            level = level[0] if level.dim() == 5 else level.transpose(0, 1)  # [C, T, h, w]
            assert layer is None or shapes[layer] == tuple(level.shape), (name, layer)
        assert last_map_layer(model, x) == ("norm" if name == "glnet_debug" else layers[-1])


def test_channels_may_be_last(networks):
    """EurNet's first stage has 16 channels on 16 x 16 patches."""
    model, x = networks["eurnet_debug"]
    found = map_layers(model, x)
    assert found["stages.0.blocks.0.ffn.fc1"] == (64, 1, 16, 16) and found["stages.1"] == (64, 1, 4, 4)
    output = torch.randn(1, 16, 16, 16)
    assert torch.equal(to_map(model, "stages.0.blocks.0", output, (64, 64)), output.movedim(-1, 1)[0][:, None])
    context = "stages.0.blocks.0.graph_conv.context_layers.0"
    assert torch.equal(to_map(model, context, output, (64, 64)), output[0][:, None])


@pytest.mark.parametrize("layer", ["conv4", "conv3.B01.conv_m1.bn", "conv3.B01_extra.conv_proj", "conv1"])
def test_any_layer_with_a_map_can_be_chosen(networks, layer):
    """Also one whose output is overwritten by what comes next."""
    model, x = networks["glore_resnet_debug_3d"]
    assert grad_cam(model, x, layer=layer).values.shape == map_layers(model, x)[layer][1:]


def test_wrong_layers_are_named(networks):
    model, x = networks["glore_resnet_debug_3d"]
    with pytest.raises(SettingsError, match=r"no layer is called 'conv6'; did you mean 'conv[1-5]'.*--list-layers"):
        grad_cam(model, x, layer="conv6")
    with pytest.raises(SettingsError, match="classifier gives no map"):
        grad_cam(model, x, layer="classifier")
    model, x = networks["eat_debug"]
    with pytest.raises(SettingsError, match="the classes do not depend on unused"):
        model.unused = nn.LayerNorm(64)
        try:
            handle = model.norm.register_forward_hook(lambda module, inputs, output: (model.unused(output), None)[1])
            grad_cam(model, x, layer="unused")
        finally:
            handle.remove()
            del model.unused
