"""Classifiers of torchvision: its own numbers and files, and features and stages found in networks of any make."""

import re

import pytest
import torch
import torchvision

from backbones.torchvision_network import describe_input, list_names, takes_images
from models import WeightsError, create_model, load_pretrained, load_weights

SMALL = ["shufflenet_v2_x0_5", "squeezenet1_1", "mnasnet0_5", "mobilenet_v3_small"]


@pytest.mark.parametrize("name", SMALL)
def test_files_of_the_plain_network_load_strictly_and_compute_the_same(name, tmp_path):
    torch.manual_seed(0)
    plain = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    torch.save({"model": plain.state_dict()}, tmp_path / "weights.pth")
    model = create_model(f"torchvision/{name}", num_classes=7).eval()
    assert load_weights(model, tmp_path / "weights.pth").misfits() == []
    other = create_model(f"torchvision/{name}", num_classes=3)
    assert {entry for entry, *_ in load_pretrained(other, tmp_path / "weights.pth").mismatched} == {
        entry for entry in model.state_dict() if entry.startswith(model.classifier_names)
    }
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model(images), plain(images))


# name: (channels, strides, shape of the features of its own input, where Grad-CAM looks)
MADE_UP_OF = {
    "resnet18": ((64, 128, 256, 512), (4, 8, 16, 32), (512, 7, 7), None),
    "swin_t": ((96, 192, 384, 768), (4, 8, 16, 32), (768, 7, 7), None),
    "vgg11": ((256, 512, 512, 512), (4, 8, 16, 32), (512, 7, 7), None),
    "vit_b_32": ((768,), (32,), (50, 768), "network.encoder.layers.encoder_layer_11.ln_1"),
    "r3d_18": ((128, 256, 512), ((2, 4, 4), (4, 8, 8), (8, 16, 16)), (512, 2, 7, 7), None),
    "swin3d_t": ((96, 192, 384, 768), tuple((2, s, s) for s in (4, 8, 16, 32)), (768, 8, 7, 7), None),
}


@pytest.mark.parametrize("name", MADE_UP_OF)
def test_features_and_stages_are_found(name):
    channels, strides, shape, cam_layer = MADE_UP_OF[name]
    own = describe_input(name).shape
    with torch.device("meta"), torch.no_grad():
        model = create_model(f"torchvision/{name}").eval()
        assert (model.pyramid_channels, model.pyramid_strides, model.cam_layer) == (channels, strides, cam_layer)
        assert model.forward_features(torch.empty(2, *own)).shape == (2, *shape)
        levels = model.forward_pyramid(torch.empty(2, *own))
    for level, width, stride in zip(levels, channels, strides, strict=True):
        steps = stride if isinstance(stride, tuple) else (stride, stride)
        assert level.shape == (2, width, *(side // step for side, step in zip(own[1:], steps, strict=True)))


@pytest.mark.weekly
@pytest.mark.parametrize("name", list_names())
def test_every_network_keeps_the_contract_on_its_own_input(name):
    """Shapes alone, without memory or numbers."""
    shape = describe_input(name).shape
    with torch.device("meta"), torch.no_grad():
        model = create_model(f"torchvision/{name}", num_classes=7).eval()
        x = torch.empty(2, *shape)
        assert model(x).shape == (2, 7) and model.train()(x).shape == (2, 7)
        assert model.eval().forward_features(x).dim() in (3, len(shape) + 1)
        assert [level.shape[1] for level in model.forward_pyramid(x)] == list(model.pyramid_channels)
        entries = set(model.state_dict())
        model.reset_classifier(0)
        assert model(x).shape == (2, model.num_features)
        assert {entry for entry in entries if entry.startswith(model.classifier_names)} == entries - set(
            model.state_dict()
        )


def test_features_are_what_the_classifier_pools():
    torch.manual_seed(0)
    model = create_model("torchvision/shufflenet_v2_x0_5", num_classes=5).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        logits, features = model(images), model.forward_features(images)
        torch.testing.assert_close(model.network.fc(features.mean((2, 3))), logits)
        model.reset_classifier(0)
        torch.testing.assert_close(model(images), features.mean((2, 3)))
        model.reset_classifier(4)
        assert model(images).shape == (2, 4) and model.num_classes == 4


def test_auxiliary_classifiers_are_left_out_of_network_and_file(tmp_path):
    with torch.device("meta"):
        plain = torchvision.models.googlenet(weights=None, init_weights=False)
        model = create_model("torchvision/googlenet")
    assert model.network.transform_input and not any("aux" in name for name in model.state_dict())
    torch.save(
        {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in plain.state_dict().items()}, tmp_path / "w.pth"
    )
    assert load_weights(model.to_empty(device="cpu"), tmp_path / "w.pth").misfits() == []


def test_older_files_have_dots_in_the_names_of_layers(tmp_path):
    """Those of DenseNet that torchvision offers: norm.1 for norm1."""
    with torch.device("meta"):
        model = create_model("torchvision/densenet121")
    own = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in model.network.state_dict().items()}
    dotted = {re.sub(r"(denselayer\d+\.(norm|conv))(\d)", r"\1.\3", name): tensor for name, tensor in own.items()}
    assert dotted.keys() != own.keys()
    assert model.adapt_plain(dotted, resize=False).keys() == own.keys()


def test_positions_of_a_vit_are_resized_for_fine_tuning():
    weights = {"encoder.pos_embedding": torch.zeros(1, 197, 768)}
    with torch.device("meta"):
        model = create_model("torchvision/vit_b_16", image_size=64)
    assert model.pyramid_strides == (16,) and model.network.image_size == 64
    assert model.adapt_plain(weights, resize=True)["encoder.pos_embedding"].shape == (1, 17, 768)
    assert model.adapt_plain(weights, resize=False)["encoder.pos_embedding"].shape == (1, 197, 768)


def test_networks_are_built_for_the_size_of_their_newest_weights():
    with torch.device("meta"), torch.no_grad():
        model = create_model("torchvision/vit_h_14", num_classes=3)
        assert model(torch.empty(1, 3, 518, 518)).shape == (1, 3) and model.pyramid_strides == (14,)


def test_the_input_is_that_of_the_weights():
    assert describe_input("r3d_18").shape == (3, 16, 112, 112) and describe_input("r3d_18").mean[0] == 0.43216
    assert describe_input("swin_v2_t").shape == (3, 256, 256)
    for name in ("resnet18", "convnext_tiny", "swin_t"):
        views = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        assert int(views.crop_size[0] / describe_input(name).crop_fraction) == views.resize_size[0]
    assert takes_images("resnet18") and not takes_images("s3d")


def test_what_torchvision_does_not_have():
    with pytest.raises(ValueError, match="has no classifier 'r3d18'; did you mean 'r3d_18'"):
        create_model("torchvision/r3d18")
    with pytest.raises(ValueError, match="has no classifier 'fcn_resnet50'"):
        create_model("torchvision/fcn_resnet50")
    with pytest.raises(ValueError, match=r"torchvision/resnet18 does not take these options: .*'windows'"):
        create_model("torchvision/resnet18", windows="authors")


def test_files_of_another_network_are_refused(tmp_path):
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not fit torchvision/shufflenet_v2_x0_5: 0 of the model's"):
        load_pretrained(create_model("torchvision/shufflenet_v2_x0_5"), tmp_path / "other.pth")
