"""Files of weights: the authors' layouts load by name, and fine-tuning takes them to other sizes and to clips."""

from argparse import Namespace

import pytest
import torch
from golden_weights import read_golden, state_dict_for

from backbones import PerFrame
from eurgraph.eurnet import DEBUG, EurNet
from models import WeightsError, create_model, create_pyramid, load_pretrained, load_weights


@pytest.fixture
def image_file(tmp_path):
    """As the authors' runner saves: the state dict under `model`, beside the settings."""
    weights = create_model("eurnet_debug", num_classes=7).state_dict()
    weights["absolute_pos_embed"] = torch.randn_like(weights["absolute_pos_embed"])
    torch.save({"model": weights, "epoch": 299, "args": Namespace(lr=0.1)}, tmp_path / "image.pth")
    return tmp_path / "image.pth"


def test_the_authors_layout_loads(image_file):
    model = create_model("eurnet_debug", num_classes=7)
    report = load_weights(model, image_file)
    assert len(report.loaded) == len(model.state_dict()) and not report.misfits()


def test_another_size_needs_fine_tuning(image_file):
    model = create_model("eurnet_debug", num_classes=7, image_size=(96, 64))
    with pytest.raises(WeightsError, match="Try: load_pretrained, which resizes what depends on the size"):
        load_weights(model, image_file)
    assert load_pretrained(model, image_file).misfits() == []


def test_another_number_of_classes_gets_a_new_classifier(image_file):
    model = create_model("eurnet_debug", num_classes=3)
    head = model.head.weight.clone()
    report = load_pretrained(model, image_file)
    assert [name for name, _, _ in report.mismatched] == ["head.weight", "head.bias"]
    assert torch.equal(model.head.weight, head)


def test_a_classifier_that_starts_small_is_not_loaded(image_file):
    model = EurNet(DEBUG, 7, image_size=96, context_sizes=(3,), head_init_scale=0.001)
    report = load_pretrained(model, image_file)
    assert report.missing == ["head.weight", "head.bias"] and model.head.weight.abs().max() < 1e-3
    torch.save(model.state_dict(), image_file)
    assert not load_weights(model, image_file).misfits()  # but it is, where nothing is to be tuned


@pytest.mark.parametrize("wrap", [lambda network: network, PerFrame])
def test_a_classifier_that_starts_small_starts_from_chosen_classes(image_file, wrap):
    model = EurNet(DEBUG, 2, image_size=96, context_sizes=(3,), head_init_scale=0.001)
    load_pretrained(wrap(model), image_file, classes=[6, 1])
    expected = torch.load(image_file, weights_only=False)["model"]["head.weight"][[6, 1]]
    assert torch.equal(model.head.weight, expected)


def test_clips_start_from_the_weights_of_images(image_file):
    image = create_model("eurnet_debug", num_classes=7)
    load_weights(image, image_file)
    clip = create_model("eurnet_debug_video", num_classes=7, num_frames=4)
    assert load_pretrained(clip, image_file).misfits() == []
    frame = torch.randn(1, 3, 64, 64)
    still = frame.unsqueeze(2).expand(-1, -1, 4, -1, -1)
    torch.testing.assert_close(clip.eval()(still), image.eval()(frame), rtol=1e-4, atol=1e-5)


def test_a_backbone_for_scenes_is_not_a_classifiers_file(tmp_path):
    torch.save(create_pyramid("eurnet_debug").state_dict(), tmp_path / "backbone.pth")
    with pytest.raises(WeightsError, match=r"does not fit eurnet_debug: absolute_pos_embed has the shape .* backbone"):
        load_pretrained(create_model("eurnet_debug"), tmp_path / "backbone.pth")


def test_weights_of_another_network_are_refused(tmp_path):
    golden = read_golden("glore_unit")["cases"]
    weights = state_dict_for(next(iter(golden.values()))["state_dict"])
    torch.save(weights, tmp_path / "unit.pth")
    for load in (load_weights, load_pretrained):
        with pytest.raises(WeightsError, match=r"unit\.pth: does not fit eurnet_debug: 0 of the model's"):
            load(create_model("eurnet_debug"), tmp_path / "unit.pth")
