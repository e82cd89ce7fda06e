"""3-D ResNets as backbones: the maps of the classifier's stages, and no more stages than are asked for."""

import pytest
import torch

from glore3d.resnet3d_pyramid import STAGES
from models import create_model, create_pyramid


@pytest.mark.parametrize("name", ["glore_resnet_debug_3d", "resnet_debug_3d"])
@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 2)])
def test_levels_are_the_maps_of_the_classifier(name, out_indices):
    torch.manual_seed(0)
    classifier, backbone = create_model(name).eval(), create_pyramid(name, out_indices).eval()
    backbone.load_state_dict({entry: classifier.state_dict()[entry] for entry in backbone.state_dict()})
    parts = {entry.split(".")[0] for entry in backbone.state_dict()}
    assert parts == {"conv1", *STAGES[: out_indices[-1] + 1], *(["tail"] if out_indices[-1] == 3 else [])}
    clips = torch.randn(2, 3, 4, 40, 70)
    with torch.inference_mode():
        maps = classifier.forward_pyramid(clips)
        assert all(map(torch.equal, backbone(clips), [maps[i] for i in out_indices]))
    assert backbone.pyramid_strides == tuple(classifier.pyramid_strides[i] for i in out_indices)


def test_fewer_stages_take_smaller_clips():
    backbone = create_pyramid("resnet_debug_3d", (0, 1)).eval()
    assert backbone(torch.randn(1, 3, 1, 8, 8))[1].shape == (1, 64, 1, 1, 1)
    with pytest.raises(ValueError, match=r"at least T x H x W = 1 x 8 x 8, not \[1, 3, 1, 4, 8\]"):
        backbone(torch.randn(1, 3, 1, 4, 8))
