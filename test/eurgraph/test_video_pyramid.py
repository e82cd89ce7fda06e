"""EurNet for clips as a backbone: the raw maps of the classifier, and no more stages than are asked for."""

import pytest
import torch

from models import create_model, create_pyramid


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 2)])
def test_levels_are_the_maps_of_the_classifier(out_indices):
    torch.manual_seed(0)
    classifier = create_model("eurnet_debug_video").double().eval()
    backbone = create_pyramid("eurnet_debug_video", out_indices).double().eval()
    own = backbone.state_dict()
    backbone.load_state_dict({entry: classifier.state_dict()[entry] for entry in own})
    assert len(backbone.stages) == out_indices[-1] + 1
    assert not any(entry.startswith(("norm.", "head.", f"stages.{out_indices[-1]}.downsample")) for entry in own)
    clips = torch.randn(1, 3, 4, 64, 70, dtype=torch.float64)
    with torch.inference_mode():
        maps = classifier.forward_pyramid(clips)
        assert all(map(torch.equal, backbone(clips), [maps[i] for i in out_indices]))
    assert backbone.num_layers == 1 + out_indices[-1] + 1


def test_clips_with_fewer_patches_than_neighbors():
    with pytest.raises(ValueError, match="num_neighbors=4 is impossible on a grid of 2 x 2"):
        create_pyramid("eurnet_debug_video")(torch.zeros(1, 3, 4, 32, 32))
