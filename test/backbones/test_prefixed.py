"""A network inside another keeps its files, its layers and its classifier, under the names that they have there."""

import copy

import pytest
import torch
from torch import nn

from backbones.prefixed import prefixed
from models import LayerDecay, create_model, load_pretrained, load_weights


class Segmentor(nn.Module):
    classifier_names = ("decode_head.",)

    def __init__(self, name: str = "hornet_debug_gf", **options):
        super().__init__()
        self.backbone = create_model(name, num_classes=5, **options)
        self.decode_head = nn.Linear(3, 2)


def test_files_of_the_backbone_and_of_the_whole_load(tmp_path):
    torch.manual_seed(0)
    model, other = prefixed(Segmentor(), "backbone."), prefixed(Segmentor(), "backbone.")
    torch.save(model.backbone.state_dict(), tmp_path / "backbone.pth")
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    load_pretrained(other, tmp_path / "backbone.pth")  # the head is the wrapper's own classifier
    assert torch.equal(other.backbone.head.weight, model.backbone.head.weight)
    assert not torch.equal(other.decode_head.weight, model.decode_head.weight)
    assert not load_weights(other, tmp_path / "whole.pth").misfits()
    assert torch.equal(other.decode_head.weight, model.decode_head.weight)


def test_weights_of_both_are_resized():
    small, large = (prefixed(Segmentor("eurnet_debug", image_size=size), "backbone.") for size in (64, 96))
    for weights in (small.state_dict(), small.backbone.state_dict()):
        adapted = large.adapt_weights(weights, resize=True)
        assert adapted["backbone.absolute_pos_embed"].shape == large.backbone.absolute_pos_embed.shape


def test_layers_are_those_of_the_backbone_and_the_rest_is_the_last():
    model = prefixed(Segmentor(), "backbone.")
    assert isinstance(model, LayerDecay) and model.num_layers == 13
    assert [model.layer_of(f"backbone.{name}") for name in ("stages.0.0.gamma1", "head.bias")] == [1, 13]
    assert model.layer_of("decode_head.weight") == 13
    assert not isinstance(prefixed(Segmentor("eat_debug"), "backbone."), LayerDecay)


def test_classifiers_of_both():
    assert prefixed(Segmentor(), "backbone.").classifier_names == ("decode_head.", "backbone.head.")


def test_a_copy_asks_its_own_backbone():
    model = prefixed(Segmentor(), "backbone.")
    twin = copy.deepcopy(model)
    assert twin.adapt_weights.args[0] is twin.backbone and model.adapt_weights.args[0] is model.backbone


def test_a_prefix_of_no_part():
    with pytest.raises(AttributeError, match="has no attribute `body`"):
        prefixed(Segmentor(), "body.")
