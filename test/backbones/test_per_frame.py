"""Networks for images on clips: the mean over the frames, whatever their order, from the files of the image network."""

import pytest
import safetensors.torch
import torch

from backbones import PerFrame
from models import create_model, list_models, load_pretrained, load_weights, takes_images

DEBUG = [name for name in list_models("*debug*") if takes_images(name)]


@pytest.fixture
def clips():
    return torch.randn(2, 3, 4, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", DEBUG)
def test_logits_are_the_mean_over_the_frames(name, clips):
    torch.manual_seed(1)
    network = create_model(name, num_classes=5).eval()
    model = PerFrame(network).eval()
    with torch.inference_mode():
        logits = model(clips)
        expected = torch.stack([network(frame) for frame in clips.unbind(2)]).mean(0)
        backwards = model(clips.flip(2))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits, backwards, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DEBUG)
def test_files_of_the_image_network_and_its_own_load(name, tmp_path):
    torch.manual_seed(1)
    image = create_model(name, num_classes=5)
    safetensors.torch.save_file(
        {key: tensor.contiguous() for key, tensor in image.state_dict().items()}, tmp_path / "image.safetensors"
    )
    clip = PerFrame(create_model(name, num_classes=5))
    assert not load_weights(clip, tmp_path / "image.safetensors").misfits()
    for key, tensor in image.state_dict().items():
        assert torch.equal(clip.state_dict()[f"network.{key}"], tensor), key
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    again = PerFrame(create_model(name, num_classes=5))
    assert not load_weights(again, tmp_path / "clip.pt").misfits()
    other = PerFrame(create_model(name, num_classes=3))
    report = load_pretrained(other, tmp_path / "image.safetensors")
    assert all(entry[0].startswith("network.") for entry in report.mismatched) and report.mismatched


def test_layers_are_those_of_the_network():
    network = create_model("eurnet_debug", num_classes=5)
    model = PerFrame(network)
    assert model.num_layers == network.num_layers
    for name, _ in network.named_parameters():
        assert model.layer_of(f"network.{name}") == network.layer_of(name)
    assert not hasattr(PerFrame(create_model("eat_debug")), "layer_of")


def test_errors_for_inputs_that_do_not_fit(clips):
    with pytest.raises(ValueError, match=r"clips are \[B, 3, T, H, W\], not \[2, 3, 64, 64\]"):
        PerFrame(create_model("eurnet_debug"))(clips[:, :, 0])
    model = PerFrame(create_model("eat_debug", distilled=True)).train()
    with pytest.raises(ValueError, match="eat_debug has more outputs than logits in training"):
        model(clips)
