"""Clip networks as backbones of heads for images: time is averaged, files of the clip network load."""

import pytest
import torch

from backbones import PerFrame
from backbones.time_averaged import TimeAveraged
from models import Pyramid, create_model, create_pyramid, load_pretrained, load_weights


@pytest.mark.parametrize("name", ["glore_resnet_debug_3d", "eurnet_debug_video"])
def test_maps_are_means_over_time(name):
    torch.manual_seed(0)
    network = create_pyramid(name, (0, 2)).double().eval()
    model = TimeAveraged(network)
    assert isinstance(model, Pyramid) and model.pyramid_strides == (4, 16)
    clips = torch.randn(2, 3, 4, 64, 70).double()
    with torch.inference_mode():
        for level, expected in zip(model(clips), network(clips), strict=True):
            assert level.dim() == 4 and torch.equal(level, expected.mean(2))


def test_a_backbone_for_images_sees_the_mean_of_its_frames():
    network = create_pyramid("hornet_debug_7x7").eval()
    clips = torch.randn(2, 3, 3, 64, 64)
    with torch.inference_mode():
        levels = TimeAveraged(PerFrame(network))(clips)
        expected = torch.stack([network(frame)[3] for frame in clips.unbind(2)]).mean(0)
    torch.testing.assert_close(levels[3], expected)


@pytest.mark.parametrize("name", ["glore_resnet_debug_3d", "eurnet_debug_video"])
def test_files_of_the_clip_network_and_its_own_load(name, tmp_path):
    classifier = create_model(name, num_classes=5)
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    model = create_pyramid(name, (0, 2), weights=tmp_path / "classifier.pth", time="mean")
    assert model.model_name == name
    theirs = {f"network.{entry}": tensor for entry, tensor in classifier.state_dict().items()}
    assert all(torch.equal(tensor, theirs[entry]) for entry, tensor in model.state_dict().items())
    other = create_pyramid(name, (0, 2), time="mean")
    assert not load_pretrained(other, tmp_path / "classifier.pth").missing
    torch.save(model.state_dict(), tmp_path / "own.pth")
    assert not load_weights(other, tmp_path / "own.pth").misfits()


def test_units_stay_as_they_are_where_weights_of_images_are_inflated():
    model = create_pyramid("glore_resnet_debug_3d", time="mean")
    assert model.unit_names == ["network.conv3.B01_extra", "network.conv4.B01_extra"]
    assert create_pyramid("glore_resnet_debug_3d", (0, 1), time="mean").unit_names == ["network.conv3.B01_extra"]
