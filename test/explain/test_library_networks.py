"""Grad-CAM on networks of other libraries: maps whatever their layout, and where a class token reads the patches."""

import pytest
import torch

from backbones import PerFrame
from explain.grad_cam import grad_cam
from explain.layers import map_layers
from models import create_model
from settings import SettingsError

SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8), "img_size": 64, "window_size": 2}
NETWORKS = {  # name: (options, size of the images, side of the map)
    "timm/test_resnet": ({}, 96, 3),
    "timm/test_convnext": ({}, 96, 3),
    "timm/test_vit": ({}, 160, 10),
    "timm/test_vit2": ({"img_size": 64}, 64, 4),
    "timm/swin_tiny_patch4_window7_224": (SWIN, 64, 2),
    "torchvision/shufflenet_v2_x0_5": ({}, 96, 3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_class_depends_on_its_map(name):
    torch.manual_seed(0)
    options, size, side = NETWORKS[name]
    model = create_model(name, num_classes=4, **options).eval()
    found = grad_cam(model, torch.randn(1, 3, size, size), label=2)
    assert found.values.shape == (1, side, side) and found.label == 2
    assert any(grad_cam(model, torch.randn(1, 3, size, size), label).values.any() for label in range(4))
    assert found.layer in map_layers(model, torch.randn(1, 3, size, size))


def test_layers_of_a_network_that_has_not_run_yet():
    model = create_model("torchvision/shufflenet_v2_x0_5", num_classes=4).eval()
    assert map_layers(model, torch.randn(1, 3, 96, 96))["network.stage2"] == (48, 1, 12, 12)


def test_each_frame_of_a_clip_has_a_map():
    torch.manual_seed(0)
    model = PerFrame(create_model("timm/test_vit", num_classes=4, img_size=64)).eval()
    assert grad_cam(model, torch.randn(1, 3, 2, 64, 64)).values.shape == (2, 4, 4)


def test_features_that_are_no_map_are_an_error(monkeypatch):
    model = create_model("timm/test_vit2", num_classes=4, img_size=64).eval()
    monkeypatch.setattr(type(model), "num_prefix_tokens", 7)
    with pytest.raises(SettingsError, match="no layer gives the network's last feature map as it is; choose one with"):
        grad_cam(model, torch.randn(1, 3, 64, 64))
