"""Classifiers of timm: timm's own numbers, its files, its levels, and clear errors."""

import pytest
import safetensors.torch
import timm
import torch

from backbones.timm_network import describe_input
from models import LayerDecay, WeightsError, create_model, load_pretrained, load_weights
from weight_reader import AVERAGES

NAMES = ["test_resnet", "test_convnext", "test_vit", "test_vit2"]
SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8), "img_size": 64, "window_size": 2}


@pytest.fixture(params=NAMES)
def plain(request):
    torch.manual_seed(0)
    network = timm.create_model(request.param, num_classes=7).eval()
    network.our_name = f"timm/{request.param}"
    return network


@pytest.mark.parametrize("layout", ["bare.pth", "state_dict.pth", "model.pth", "ddp.pth", "bare.safetensors"])
def test_files_of_the_plain_network_load_strictly_and_compute_the_same(plain, layout, tmp_path):
    weights, path = plain.state_dict(), tmp_path / layout
    match layout.split("."):
        case [_, "safetensors"]:
            safetensors.torch.save_file(weights, path)
        case ["ddp", _]:
            torch.save({"model": {f"module.{name}": tensor for name, tensor in weights.items()}}, path)
        case ["bare", _]:
            torch.save(weights, path)
        case [key, _]:
            torch.save({key: weights, "epoch": 3}, path)
    model = create_model(plain.our_name, num_classes=7).eval()
    assert len(load_weights(model, path).loaded) == len(weights)
    images = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        assert torch.equal(model(images), plain(images))
        assert torch.equal(model.forward_features(images), plain.forward_features(images))


def test_the_classifier_of_a_file_is_used_if_it_has_the_models_classes(plain, tmp_path):
    torch.save(plain.state_dict(), tmp_path / "weights.pth")
    same, other = (create_model(plain.our_name, num_classes=number) for number in (7, 3))
    assert load_pretrained(same, tmp_path / "weights.pth").missing == []
    report = load_pretrained(other, tmp_path / "weights.pth")
    assert {name for name, *_ in report.mismatched} == {f"network.{name}" for name in _classifier(plain)}
    with pytest.raises(WeightsError, match="num_classes=7, which the file was made for"):
        load_weights(other, tmp_path / "weights.pth")
    torch.save({"model_ema": other.state_dict()}, tmp_path / "ours.pth")
    assert load_weights(create_model(plain.our_name, 3), tmp_path / "ours.pth", average=AVERAGES[0]).misfits() == []


def _classifier(network):
    name = network.default_cfg["classifier"]
    return {f"{name}.weight", f"{name}.bias"}


def test_positions_are_resized_for_fine_tuning(tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "weights.pth")
    model = create_model("timm/test_vit", img_size=64)
    with pytest.raises(WeightsError, match="Try: load_pretrained, which resizes"):
        load_weights(model, tmp_path / "weights.pth")
    assert load_pretrained(model, tmp_path / "weights.pth").misfits() == []
    assert model.network.pos_embed.shape == (1, 17, 64)


def test_maps_that_timm_has_channels_last_are_turned():
    model = create_model("timm/swin_tiny_patch4_window7_224", num_classes=3, **SWIN).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        features, plain = model.forward_features(images), model.network.forward_features(images)
        assert features.shape == (1, 128, 2, 2) and torch.equal(features, plain.permute(0, 3, 1, 2))
        assert [level.shape[1] for level in model.forward_pyramid(images)] == list(model.pyramid_channels)


def test_layers_learn_at_the_rates_of_timm():
    from timm.optim import param_groups_layer_decay

    model = create_model("timm/test_vit")
    assert isinstance(model, LayerDecay)
    scale_of = {id(p): group["lr_scale"] for group in param_groups_layer_decay(model.network, layer_decay=0.5)
                for p in group["params"]}  # fmt: skip
    for name, parameter in model.named_parameters():
        assert scale_of[id(parameter)] == 0.5 ** (model.num_layers - model.layer_of(name)), name


def test_the_input_is_that_of_the_weights():
    assert describe_input("test_vit") == ((3, 160, 160), (0.5,) * 3, (0.5,) * 3, 0.95)
    assert describe_input("vit_base_patch16_clip_224.openai").mean != describe_input("vit_base_patch16_224").mean


@pytest.mark.weekly
@pytest.mark.parametrize("name", [name for name in timm.list_models()[::12] if not name.startswith("gemma4")])
def test_networks_keep_the_contract_on_their_own_input(name):
    """Shapes alone, without memory or numbers."""
    shape = describe_input(name).shape
    with torch.device("meta"), torch.no_grad():
        model = create_model(f"timm/{name}", num_classes=7).eval()
        x = torch.empty(2, *shape)
        assert model(x).shape == (2, 7)
        if not name.startswith(("crossvit", "efficientvim")):  # which give their features in parts
            assert model.forward_features(x).dim() in (3, 4)
        assert [level.shape[1] for level in model.forward_pyramid(x)] == list(model.pyramid_channels)
        entries = set(model.state_dict())
        model.reset_classifier(0)
        assert model(x).shape == (2, model.num_features)
        gone = entries - set(model.state_dict())
        assert {entry for entry in entries if entry.startswith(model.classifier_names)} <= gone


def test_what_timm_does_not_have():
    with pytest.raises(ValueError, match="has no network 'test_vti'; did you mean 'test_vit"):
        create_model("timm/test_vti")
    with pytest.raises(ValueError, match=r"has no weights 'resnet18\.a9_in1k'; did you mean 'resnet18\.a"):
        create_model("timm/resnet18.a9_in1k")
    with pytest.raises(ValueError, match=r"timm/test_vit does not take these options: .*'windows'"):
        create_model("timm/test_vit", windows="authors")
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match="timm/gemma4_vit_167m_enc is not a classifier; choose a"),
    ):
        create_model("timm/gemma4_vit_167m_enc")
    with torch.device("meta"), pytest.raises(ValueError, match="crossvit_9_240 returns its features in parts"):
        create_model("timm/crossvit_9_240").forward_features(torch.empty(1, 3, 240, 240))


def test_files_of_another_network_are_refused(tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not fit timm/test_vit: 0 of the model's"):
        load_pretrained(create_model("timm/test_vit"), tmp_path / "other.pth")
