"""Image networks as backbones: levels of the classifier, stages up to the last one, layers, options."""

import pytest
import torch

from glore3d import GloReUnit
from models import LayerDecay, create_model, create_pyramid, takes_images


@pytest.mark.parametrize("name", ["glore_resnet_debug", "glore_dpn_debug"])
def test_levels_are_those_of_the_classifier(name, tmp_path):
    torch.manual_seed(0)
    classifier = create_model(name, num_classes=5).eval()
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    x = torch.randn(1, 3, 97, 64)
    with torch.inference_mode():
        expected = classifier.forward_pyramid(x)
        for levels in [(0, 1, 2, 3), (0, 2), (3,)]:
            backbone = create_pyramid(name, levels, weights=tmp_path / "weights.pth").eval()
            assert all(torch.equal(map_, expected[i]) for map_, i in zip(backbone(x), levels, strict=True))
            assert backbone.pyramid_channels == tuple(classifier.pyramid_channels[i] for i in levels)
            assert backbone.num_features == backbone.pyramid_channels[-1]


def test_later_stages_are_not_built_nor_their_units_named():
    backbone = create_pyramid("glore_resnet_debug", (0, 1))
    assert not any(name.startswith(("conv4", "conv5", "tail")) for name in backbone.state_dict())
    assert backbone.unit_names == ["conv3.B01_extra"]
    assert isinstance(backbone, LayerDecay) and backbone.num_layers == 4
    assert {backbone.layer_of(name) for name, _ in backbone.named_parameters()} == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["preact_resnet_debug", "glore_dpn_debug"])
def test_options_reach_the_network(name):
    units = {"conv4": (2,)}
    backbone = create_pyramid(name, output_stride=8, units=units, normalize=True, eps=1e-5).eval()
    assert backbone.pyramid_strides == (4, 8, 8, 8) and backbone.unit_names == ["conv4.B02_extra"]
    unit = backbone.get_submodule("conv4.B02_extra")
    assert unit.normalize and unit.gcn.conv1.bn.eps == backbone.tail.bn.eps == 1e-5
    with torch.inference_mode():
        assert [level.shape[2:] for level in backbone(torch.randn(1, 3, 70, 45))] == [(18, 12), *[(9, 6)] * 3]
    other = create_pyramid(name, units=units, unit=lambda num_in, num_mid: GloReUnit(num_in, num_mid, dim=2))
    assert isinstance(other.get_submodule("conv4.B02_extra"), GloReUnit)
    fine = create_pyramid(name, (0, 1), stem_stride=2).eval()
    assert [level.shape[2:] for level in fine(torch.randn(1, 3, 16, 45))] == [(8, 23), (4, 12)]
    assert takes_images(name) and takes_images("dilated_resnet50")


def test_small_images_are_refused():
    with pytest.raises(ValueError, match=r"at least H x W = 32 x 32, not \[1, 3, 31, 64\]"):
        create_pyramid("preact_resnet_debug", (0,))(torch.randn(1, 3, 31, 64))
