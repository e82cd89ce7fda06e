"""Networks of timm as backbones: timm's own maps, any size, files of the plain network, clear errors."""

import pytest
import timm
import torch
from torch import nn

from backbones.prefixed import prefixed
from models import Pyramid, WeightsError, create_pyramid, load_pretrained, load_weights

NETWORKS = {  # one of each way in which timm takes features: (channels, default levels)
    "resnet18": ((64, 128, 256, 512), (1, 2, 3, 4)),
    "convnext_atto": ((40, 80, 160, 320), (0, 1, 2, 3)),
    "test_efficientnet": ((24, 32, 48, 64), (1, 2, 3, 4)),
    "test_vit": ((64, 64, 64), (3, 4, 5)),
}
SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)}
OPTIONS = {name: {} for name in NETWORKS} | {"swin_tiny_patch4_window7_224": SWIN}


@pytest.mark.parametrize("name", NETWORKS)
def test_levels_are_timms_from_the_plain_networks_file(name, tmp_path):
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=7).eval()
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    backbone = create_pyramid(f"timm/{name}", weights=tmp_path / "plain.pth").eval()
    assert isinstance(backbone, Pyramid)
    assert (backbone.pyramid_channels, backbone.out_indices) == NETWORKS[name]
    images = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        expected = plain.forward_intermediates(images, indices=list(backbone.out_indices), intermediates_only=True)
        for level, other in zip(backbone(images), expected, strict=True):
            torch.testing.assert_close(level, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 45), (97, 161)])
@pytest.mark.parametrize(("name", "options"), OPTIONS.items(), ids=[*OPTIONS])
def test_any_size_and_every_parameter_learns(name, options, size):
    backbone = create_pyramid(f"timm/{name}", **options).train()
    levels = backbone(torch.randn(2, 3, *size))
    expected = [
        [2, channels, *(-(-side // stride) for side in size)]
        for channels, stride in zip(backbone.pyramid_channels, backbone.pyramid_strides, strict=True)
    ]
    assert [list(level.shape) for level in levels] == expected
    sum(level.square().mean() for level in levels).backward()
    assert [entry for entry, p in backbone.named_parameters() if p.grad is None] == []


def test_maps_that_timm_has_channels_last_are_turned():
    backbone = create_pyramid("timm/swin_tiny_patch4_window7_224", out_indices=(1, 2), **SWIN).eval()
    assert backbone.is_channels_last and backbone.pyramid_strides == (8, 16)
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        for level, other in zip(backbone(images), backbone.network(images), strict=True):
            assert torch.equal(level, other.permute(0, 3, 1, 2))


def test_stages_after_the_last_level_are_not_built(tmp_path):
    backbone = create_pyramid("timm/resnet18", out_indices=(1, 2))
    assert not any(".layer3." in entry or ".layer4." in entry for entry in backbone.state_dict())
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "plain.pth")
    assert not load_pretrained(backbone, tmp_path / "plain.pth").misfits()


def test_its_own_file_and_that_of_a_detector_load(tmp_path):
    backbone, other = create_pyramid("timm/resnet18"), create_pyramid("timm/resnet18")
    torch.save(backbone.state_dict(), tmp_path / "backbone.pth")
    assert not load_weights(other, tmp_path / "backbone.pth").misfits()
    detector = nn.Module()
    detector.backbone, detector.classifier_names = backbone, ()
    prefixed(detector, "backbone.")
    torch.save(detector.state_dict(), tmp_path / "detector.pth")
    assert not load_pretrained(other, tmp_path / "detector.pth").misfits()
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "plain.pth")
    assert not load_pretrained(detector, tmp_path / "plain.pth").misfits()
    with pytest.raises(WeightsError, match=r"2 not in the model: fc\.weight, fc\.bias"):
        load_weights(other, tmp_path / "plain.pth")


def test_files_of_another_network_are_refused(tmp_path):
    torch.save(timm.create_model("resnet34").state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not fit timm/resnet18") as error:
        create_pyramid("timm/resnet18", weights=tmp_path / "other.pth")
    assert "not in the model: layer1.2.conv1.weight" in str(error.value)


def test_what_timm_does_not_have(monkeypatch):
    with pytest.raises(ValueError, match="has no network 'resnet19'; did you mean 'resnet1"):
        create_pyramid("timm/resnet19")
    for wrong in [(), (2, 1), (-1,), (1, 1)]:
        with pytest.raises(ValueError, match="out_indices of timm/resnet18 are levels from 0 on, increasing, not"):
            create_pyramid("timm/resnet18", wrong)
    with pytest.raises(ValueError, match=r"timm/resnet18 has no levels \(1, 7\)"):
        create_pyramid("timm/resnet18", (1, 7))
    with pytest.raises(ValueError, match=r"timm/resnet18 does not take these options: .*'windows'"):
        create_pyramid("timm/resnet18", windows="authors")
    with pytest.raises(ValueError, match="resnet18 is for images, which have no time"):
        create_pyramid("timm/resnet18", time="mean")
    with pytest.raises(ValueError, match=r"at least H x W = 32 x 32, not \[1, 3, 16, 64\]"):
        create_pyramid("timm/resnet18")(torch.zeros(1, 3, 16, 64))

    def refuse(*args, **options):
        raise RuntimeError("features_only not implemented")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ValueError, match=r"timm/resnet18 has no maps \(features_only\): .*choose a network that does"):
        create_pyramid("timm/resnet18")
