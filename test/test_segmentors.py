"""Segmentors by name, against what the authors' networks give."""

from typing import Any

import numpy as np
import pytest
import torch
from golden_maps import check_map
from golden_weights import input_for, read_golden, state_dict_for
from torch import nn

from dense.segmentation_loss import segmentation_losses
from dense.segmentor import slide
from segmentors import create_segmentor

GOLDENS = {
    "hornet_tiny_gf_upernet": ("hornet_tiny_gf", "upernet", {"image_size": 384}),
    "hornet_small_horfpn_7x7_upernet": ("hornet_small_7x7", "upernet_horfpn_7x7", {}),
}


def build(name: str, **options: Any) -> nn.Module:
    backbone, head, own = GOLDENS[name]
    return create_segmentor(backbone, num_classes=150, head=head, dropout=0.0, **own, **options)


def with_weights(name: str) -> tuple[nn.Module, dict[str, Any]]:
    golden = read_golden(name)
    model = build(name)
    assert {entry: list(tensor.shape) for entry, tensor in model.state_dict().items()} == golden["state_dict"]
    model.load_state_dict(state_dict_for(golden["state_dict"]))
    return model.double().eval(), golden


def target_of(golden: dict[str, Any]) -> torch.Tensor:
    """The labels of the golden losses: squares of 16 pixels, a tenth of the pixels ignored."""
    random = np.random.RandomState(golden["input_seed"] + 200)
    batch, _, height, width = golden["input_shape"]
    coarse = random.randint(0, golden["num_classes"], [batch, 1, -(-height // 16), -(-width // 16)])
    labels = coarse.repeat(16, 2).repeat(16, 3)[:, :, :height, :width]
    labels[random.uniform(size=labels.shape) < 0.1] = 255
    return torch.from_numpy(labels[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDENS)
def test_maps_and_logits_are_the_authors(name):
    model, golden = with_weights(name)
    features, images = golden["features"], input_for(golden["input_shape"]).double()
    with torch.inference_mode():
        levels = model.backbone.forward_pyramid(images)
        for i, level in enumerate(levels):
            check_map(f"backbone.{i}", level, features[f"backbone.{i}"])
        head = model.decode_head
        check_map("psp", head.pool(levels[-1]), features["decode_head.psp"])
        fused = head.fuse(levels)
        check_map("before_classifier", fused, features["decode_head.before_classifier"])
        check_map("logits", head.conv_seg(fused), features["decode_head.logits"])
        check_map("auxiliary", model.auxiliary_head(levels), features["auxiliary_head.logits"])
        prediction = model(images).argmax(1)
        if "slide_logits" in features:
            check_map("slide_logits", slide(model, images, (64, 64), (48, 48)), features["slide_logits"])
    classes = golden["prediction"]["class_of_pixels"]
    places = torch.linspace(0, prediction.numel() - 1, len(classes), dtype=torch.float64).round().long()
    assert prediction.flatten()[places].tolist() == classes
    assert prediction.unique().numel() == golden["prediction"]["num_different_classes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDENS)
def test_losses_and_gradients_are_the_authors(name):
    model, golden = with_weights(name)
    model.train()
    images = input_for(golden["input_shape"]).double()
    losses = segmentation_losses(model(images), target_of(golden))
    assert deviation_of(losses["decode"], golden["losses"]["decode.loss_ce"][0]) < 1e-7
    assert deviation_of(losses["auxiliary"], golden["losses"]["aux.loss_ce"][0]) < 1e-7
    sum(losses.values()).backward()
    for entry, parameter in model.named_parameters():
        if entry in golden["grad_norms"]:
            assert deviation_of(parameter.grad.norm(), golden["grad_norms"][entry]) < 2e-7, entry
        else:
            assert entry in golden["no_gradient"], entry


def deviation_of(actual: torch.Tensor, expected: float) -> float:
    """Relative difference beyond the rounding of the golden number to 8 digits; what cancels to nothing is equal."""
    if max(abs(actual.item()), abs(expected)) < 1e-14:
        return 0.0
    return max(0.0, abs(actual.item() - expected) / abs(expected) - 1e-7)
