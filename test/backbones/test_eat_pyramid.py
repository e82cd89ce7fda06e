"""EAT for dense prediction: four levels of one map, at any size, for every curve and from every file."""

import pytest
import torch
from torch import nn

from backbones.layer_norm import LayerNorm2d
from models import create_model, create_pyramid, load_pretrained


@pytest.fixture
def images():
    return torch.randn(2, 3, 43, 70, generator=torch.Generator().manual_seed(0))


def test_levels_are_the_tokens_enlarged_as_they_are_and_pooled(images):
    torch.manual_seed(0)
    classifier, backbone = create_model("eat_debug").eval(), create_pyramid("eat_debug").eval()
    own = backbone.state_dict()
    backbone.load_state_dict({entry: classifier.state_dict().get(entry, tensor) for entry, tensor in own.items()})
    with torch.no_grad():
        (tokens,) = classifier.forward_pyramid(images)
        finest, fine, middle, coarse = backbone(images)
        up = backbone.levels
        assert isinstance(up["0"][1], LayerNorm2d)
        expected = up["0"][3](nn.functional.gelu(up["0"][1](up["0"][0](tokens))))
    assert torch.equal(middle, tokens) and tokens.shape == (2, 64, 6, 9)
    assert torch.equal(coarse, nn.functional.max_pool2d(tokens, 2, ceil_mode=True)) and coarse.shape[2:] == (3, 5)
    assert torch.equal(finest, expected[:, :, :22, :35])  # 43 x 70 pixels at a stride of 2
    assert torch.equal(fine, up["1"](tokens)[:, :, :11, :18])


@pytest.mark.parametrize(
    "options",
    [
        {"curve": "hilbert"},
        {"curve": "zorder", "curve_level": "token"},
        {"local": "attention", "class_token": True},
        {"local": "none", "curve": "scan", "curve_level": "token"},
    ],
    ids=str,
)
def test_options_of_the_classifier(options, images):
    backbone = create_pyramid("eat_debug", (0, 3), **options)
    levels = backbone(images)
    assert [list(level.shape[1:]) for level in levels] == [[64, 22, 35], [64, 3, 5]]
    sum(level.square().mean() for level in levels).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    assert ("cls_token" in backbone.state_dict()) == ("class_token" in options)


@pytest.mark.parametrize("classifier", [{"distilled": True}, {"readout": "mean"}, {"image_size": 128}], ids=str)
def test_files_of_every_kind_of_classifier(classifier, tmp_path):
    model = create_model("eat_debug", num_classes=5, **classifier)
    torch.save(model.state_dict(), tmp_path / "classifier.pth")
    backbone = create_pyramid("eat_debug", (1, 2))
    report = load_pretrained(backbone, tmp_path / "classifier.pth")
    assert report.missing == ["levels.1.weight", "levels.1.bias"]
    assert torch.equal(backbone.blocks[3].mlp.fc2.weight, model.blocks[3].mlp.fc2.weight)
    if "image_size" not in classifier:
        assert torch.equal(backbone.pos_embed, model.pos_embed)


def test_files_with_a_class_token(tmp_path):
    model = create_model("eat_debug", num_classes=5, readout="class_token")
    torch.save(model.state_dict(), tmp_path / "classifier.pth")
    backbone = create_pyramid("eat_debug", class_token=True, weights=tmp_path / "classifier.pth")
    assert torch.equal(backbone.cls_token, model.cls_token)


def test_choices_that_do_not_go_together():
    with pytest.raises(ValueError, match=r"pieces of pixel rows \(curve=scan\), which do not form a grid"):
        create_pyramid("eat_debug", curve="scan")
    with pytest.raises(ValueError, match="patch_size must be a multiple of 4, for a finest level of a quarter, not 6"):
        create_pyramid("eat_debug", image_size=66, patch_size=6)
    with pytest.raises(ValueError, match=r"at least H x W = 32 x 32, not \[1, 3, 16, 64\]"):
        create_pyramid("eat_debug")(torch.zeros(1, 3, 16, 64))
