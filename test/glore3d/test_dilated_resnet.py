"""The backbone of GloRe's segmentation network against the one of torchvision's segmentation networks."""

import pytest
import torch
from golden_weights import input_for
from torchvision.models import resnet50
from torchvision.models.segmentation import fcn_resnet50

from glore3d.dilated_resnet import DilatedResNet
from models import create_pyramid


def test_it_equals_the_backbone_of_torchvisions_fcn():
    ours = create_pyramid("dilated_resnet50").eval()
    with torch.device("meta"):
        theirs = fcn_resnet50(weights=None, weights_backbone=None, aux_loss=True).backbone.eval()
    theirs.load_state_dict(ours.state_dict(), assign=True)
    x = input_for((1, 3, 70, 97))
    with torch.inference_mode():
        levels, expected = ours(x), theirs(x)
    assert torch.equal(levels[2], expected["aux"]) and torch.equal(levels[3], expected["out"])
    assert [list(level.shape[2:]) for level in levels] == [[18, 25], [9, 13], [9, 13], [9, 13]]
    assert ours.pyramid_strides == (4, 8, 8, 8) and ours.pyramid_channels == (256, 512, 1024, 2048)


@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_output_strides(output_stride):
    with torch.device("meta"):
        model = create_pyramid("dilated_resnet101", out_indices=(1, 3), output_stride=output_stride)
        levels = model(torch.empty(1, 3, 97, 161))
    assert model.pyramid_strides == (8, output_stride)
    assert [tuple(level.shape[1:]) for level in levels] == [
        (channels, -(-97 // stride), -(-161 // stride))
        for channels, stride in zip(model.pyramid_channels, model.pyramid_strides, strict=True)
    ]


def test_it_starts_from_torchvisions_classifier_and_builds_no_stage_in_vain(tmp_path):
    classifier = resnet50(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "resnet50.pth")
    backbone = create_pyramid("dilated_resnet50", out_indices=(0, 1), weights=tmp_path / "resnet50.pth")
    assert torch.equal(backbone.layer2[3].conv3.weight, classifier.layer2[3].conv3.weight)
    assert not hasattr(backbone, "layer3") and backbone.num_features == 512


def test_wrong_settings_and_images_are_named():
    with pytest.raises(ValueError, match="output_stride must be 32, 16 or 8, not 4"):
        DilatedResNet("resnet50", output_stride=4)
    for levels in [(), (2, 1), (0, 4)]:
        with pytest.raises(ValueError, match="out_indices must be increasing numbers from 0 to 3, not"):
            DilatedResNet("resnet50", out_indices=levels)
    with torch.device("meta"):
        model = DilatedResNet("resnet50", out_indices=(0,))
    with pytest.raises(ValueError, match=r"of at least H x W = 32 x 32, not \[1, 3, 31, 64\]"):
        model(torch.empty(1, 3, 31, 64, device="meta"))
