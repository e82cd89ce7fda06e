"""GLNet for dense prediction: the stages of the classifier, raw."""

import pytest
import torch

from models import create_model, create_pyramid


@pytest.mark.parametrize("name", ["glnet_debug", "glnet_debug_tklb"])
def test_levels_are_the_raw_maps_of_the_classifier(name):
    torch.manual_seed(0)
    classifier = create_model(name, num_classes=5).eval()
    backbone = create_pyramid(name, (0, 2)).eval()
    weights = backbone.state_dict()
    backbone.load_state_dict({entry: classifier.state_dict()[entry] for entry in weights})
    assert not any(entry.startswith(("norm", "head", "stages.3", "downsample_layers.3")) for entry in weights)
    images = torch.randn(2, 3, 70, 97)
    with torch.inference_mode():
        maps = classifier.forward_pyramid(images)
        assert all(map(torch.equal, backbone(images), [maps[0], maps[2]]))


def test_levels_lie_channels_last():
    levels = create_pyramid("glnet_debug")(torch.randn(2, 3, 64, 96))
    assert all(level.is_contiguous(memory_format=torch.channels_last) for level in levels[:3])


def test_images_that_are_too_small():
    with pytest.raises(ValueError, match=r"at least H x W = 32 x 32, not \[1, 3, 16, 64\]"):
        create_pyramid("glnet_debug")(torch.zeros(1, 3, 16, 64))
