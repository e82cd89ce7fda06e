"""Every model of the tables keeps the contract of `models.Model`, and pyramids have the shapes that they promise."""

import re

import pytest
import torch
from torch import nn

import models
from backbones import EAT, GLNet, HorNet, PerFrame, TokenLabelGLNet
from backbones.time_averaged import TimeAveraged
from eurgraph import EurNet
from glore3d import ImageNetwork, ResNet3d
from models import (
    CLIP_MODELS,
    IMAGE_MODELS,
    MODELS,
    LayerDecay,
    Model,
    Pyramid,
    WeightsError,
    create_model,
    create_pyramid,
    list_models,
    load_pretrained,
    load_weights,
    takes_images,
)

DEBUG = list_models("*debug*")
THEIRS = {  # networks of other libraries, one of each make: (the input of a test, classifies its last map by itself)
    "timm/test_resnet": ((3, 64, 64), True),
    "timm/test_convnext": ((3, 64, 64), True),
    "timm/test_mambaout": ((3, 64, 64), False),
    "timm/test_vit": ((3, 160, 160), False),
    "torchvision/shufflenet_v2_x0_5": ((3, 64, 64), False),
    "torchvision/r3d_18": ((3, 4, 64, 64), False),
}
THEIR_NAMES = [pytest.param(name, marks=pytest.mark.weekly) if "r3d" in name else name for name in THEIRS]
SIZES = [(224, 224), (97, 161), (32, 45)]
CROPPING = ("hornet", "glnet_stl")  # their strided convolutions have no padding


def sides(name: str, shape: tuple[int, ...], stride: int | tuple[int, ...]) -> list[int]:
    """Sides of the map of an input [(T,) H, W]."""
    strides = stride if isinstance(stride, tuple) else (stride,) * len(shape)
    rounded_up = [-(-side // step) for side, step in zip(shape, strides, strict=True)]
    rounded_down = [side // step for side, step in zip(shape, strides, strict=True)]
    return rounded_down if name.startswith(CROPPING) else rounded_up


def check_pyramid(name: str, model: nn.Module, shape: tuple[int, ...]) -> None:
    maps = model.forward_pyramid(torch.zeros(1, 3, *shape))
    expected = [
        [1, channels, *sides(name, shape, stride)]
        for channels, stride in zip(model.pyramid_channels, model.pyramid_strides, strict=True)
    ]
    assert [list(level.shape) for level in maps] == expected


@pytest.mark.parametrize("name", MODELS)
def test_every_model_keeps_the_contract(name):
    with torch.device("meta"):
        model = create_model(name)
    assert isinstance(model, Model)
    assert sum(p.numel() for p in model.parameters()) == MODELS[name].num_parameters
    if isinstance(model, LayerDecay):
        layers = {model.layer_of(entry) for entry, _ in model.named_parameters()}
        assert {0, model.num_layers} <= layers <= set(range(model.num_layers + 1))
    entries = set(model.state_dict())
    model.reset_classifier(0)
    classifier = entries - set(model.state_dict())
    assert classifier and classifier == {entry for entry in entries if entry.startswith(model.classifier_names)}


SMALLEST = ["eurnet_tiny", "eurnet_tiny_video", "hornet_tiny_gf", "glnet_4g", "glnet_stl", "eat_tiny", "resnet50_3d"]
OTHERS = [name for name in MODELS if name not in SMALLEST and "debug" not in name]


@pytest.mark.parametrize("name", [*SMALLEST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_every_model_takes_its_input_and_gives_its_pyramid(name):
    """Shapes alone, without memory or numbers."""
    with torch.device("meta"):
        model = create_model(name).eval()
        assert model(torch.empty(1, *MODELS[name].input_shape)).shape == (1, model.num_classes)
        check_pyramid(name, model, (*MODELS[name].input_shape[1:-2], 97, 161))


def test_the_tables_are_told_apart_by_their_inputs():
    assert IMAGE_MODELS.keys() | CLIP_MODELS.keys() == MODELS.keys()
    assert all(len(info.input_shape) == 3 for info in IMAGE_MODELS.values())
    assert all(len(info.input_shape) == 4 for info in CLIP_MODELS.values())
    assert (
        takes_images("eat_progress3_patch16_224") and takes_images("timm/resnet18") and not takes_images("resnet50_3d")
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", DEBUG)
def test_pyramids_have_their_shapes_at_any_size(name, size):
    if name == "eurnet_debug_video" and size == SIZES[2]:
        size = (64, 70)  # its graph, that of the classifier, needs more patches
    model = create_pyramid(name).eval()
    assert isinstance(model, Pyramid) and len(model.pyramid_channels) == 4
    num_frames = () if takes_images(name) else (4,)
    with torch.inference_mode():
        check_pyramid(name, model, (*num_frames, *size))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALLEST, *OTHERS])
def test_pyramids_of_the_papers_networks_have_their_shapes(name):
    """Shapes alone, without memory or numbers."""
    with torch.device("meta"):
        model = create_pyramid(name).eval()
        check_pyramid(name, model, (97, 161) if takes_images(name) else (2, 97, 161))


@pytest.mark.parametrize("out_indices", [(0, 1, 2, 3), (1, 2), (0, 3)])
@pytest.mark.parametrize("name", DEBUG)
def test_the_levels_that_are_asked_for_train_every_parameter(name, out_indices):
    """In float64; the levels are those of the whole pyramid."""
    torch.manual_seed(0)
    whole = create_pyramid(name).double().train()
    model = create_pyramid(name, out_indices).double().train()
    own = model.state_dict()
    model.load_state_dict({entry: tensor for entry, tensor in whole.state_dict().items() if entry in own})
    x = torch.randn(2, 3, *(() if takes_images(name) else (4,)), 64, 70, dtype=torch.float64)
    levels = model(x)
    assert len(levels) == len(model.pyramid_channels) == len(model.pyramid_strides) == len(out_indices)
    for level, expected in zip(levels, [whole(x)[i] for i in out_indices], strict=True):
        torch.testing.assert_close(level, expected)
    sum(level.square().mean() for level in levels).backward()
    assert [entry for entry, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_levels_that_do_not_exist_are_refused(monkeypatch):
    for wrong in [(), (1, 4), (2, 1), (1, 1), (-1,)]:
        message = re.escape(
            f"out_indices of hornet_debug_gf are levels from 0 (the finest) to 3, increasing, not {wrong}"
        )
        with pytest.raises(ValueError, match=message):
            create_pyramid("hornet_debug_gf", wrong)
    with pytest.raises(ValueError, match=r"'hornet_debug'; did you mean 'hornet_debug_gf'.*timm are called timm/NAME"):
        create_pyramid("hornet_debug")
    monkeypatch.delitem(models.PYRAMIDS, "eat_debug")
    with pytest.raises(ValueError, match=r"eat_debug has no backbone for .*: add its builder to models\.PYRAMIDS"):
        create_pyramid("eat_debug")
    with pytest.raises(ValueError, match="no option of glnet_debug is called 'window'"):
        create_pyramid("glnet_debug", window="authors")


def test_time_is_kept_or_averaged():
    torch.manual_seed(0)
    kept, averaged = (create_pyramid("glore_resnet_debug_3d", (1, 3), time=time).eval() for time in ("keep", "mean"))
    averaged.network.load_state_dict(kept.state_dict())
    assert isinstance(averaged, Pyramid) and averaged.pyramid_strides == (8, 32)
    clips = torch.randn(2, 3, 4, 64, 70)
    with torch.inference_mode():
        for level, expected in zip(averaged(clips), kept(clips), strict=True):
            assert expected.dim() == 5 and torch.equal(level, expected.mean(2))
    with pytest.raises(ValueError, match="time must be one of keep, mean, not 'last'"):
        create_pyramid("resnet_debug_3d", time="last")
    with pytest.raises(ValueError, match="hornet_debug_gf is for images, which have no time; leave out time='mean'"):
        create_pyramid("hornet_debug_gf", time="mean")


def classify(model: nn.Module, level: torch.Tensor) -> torch.Tensor:
    """What each family's classifier makes of the last map."""
    match model:
        case TokenLabelGLNet():
            level = model.norm(level)
            cells = model.tklb_aux_head(level.movedim(1, -1))
            return model.head(level.mean((2, 3))) + 0.5 * cells.amax((1, 2))
        case GLNet():
            return model.head(model.norm(level).mean((2, 3)))
        case HorNet():
            return model.head(model.norm(level.mean((2, 3))))
        case EAT():
            return model.head(model.read_out(level.flatten(2).mT)[:, 0])
        case EurNet():
            return model.head(model.norm(level.flatten(2).mean(2)))
        case ResNet3d() | ImageNetwork():
            return model.classifier(model.globalpool(level).flatten(1))


@pytest.mark.parametrize("name", DEBUG)
def test_the_last_map_classified_is_the_forward_pass(name):
    torch.manual_seed(0)
    model = create_model(name, num_classes=5).double().eval()
    x = torch.randn(2, *MODELS[name].input_shape, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(classify(model, model.forward_pyramid(x)[-1]), model(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", [*DEBUG, "eat_tiny_dist"])
def test_without_classes_the_output_is_the_pooled_features(name):
    torch.manual_seed(0)
    model = create_model(name, num_classes=5).eval()
    x = torch.randn(2, *MODELS[name].input_shape)
    outputs = []
    head = model.get_submodule(model.classifier_names[0].removesuffix("."))
    head.register_forward_hook(lambda module, args, output: outputs.append(args[0]))
    with torch.inference_mode():
        logits = model(x)
        model.reset_classifier(0)
        features = model(x)
        assert model.num_classes == 0 and features.shape == (2, model.num_features)
        if name != "eat_tiny_dist":  # which returns the mean of its two queries
            assert torch.equal(features, outputs[0])
        assert model.train()(x).shape == features.shape
        model.reset_classifier(7)
        assert model.eval()(x).shape == (2, 7) and logits.shape == (2, 5)


@pytest.mark.parametrize("out_indices", [pytest.param((0, 1, 2, 3), marks=pytest.mark.slow), (0, 2)])
@pytest.mark.parametrize("name", DEBUG)
def test_a_pyramid_starts_from_files_of_classifiers_and_of_its_own(name, out_indices, tmp_path):
    torch.manual_seed(0)
    classifier = create_model(name, num_classes=5)
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    backbone = create_pyramid(name, out_indices, weights=tmp_path / "classifier.pth")
    theirs = classifier.state_dict()
    new = tuple(getattr(backbone, "new_names", ()))
    others = {entry for entry in backbone.state_dict() if entry not in theirs}
    if name != "eurnet_debug":  # which has a test of its own: kernels and weights are converted
        assert others == {entry for entry in others if entry.startswith(new)}
        for entry, tensor in backbone.state_dict().items():
            assert entry in others or torch.equal(tensor, theirs[entry]), entry
    with pytest.raises(WeightsError, match="Try: load_pretrained"):
        load_weights(create_pyramid(name, out_indices), tmp_path / "classifier.pth")
    whole = create_pyramid(name)  # as a detector's file holds it
    detector = {f"backbone.{entry}": tensor for entry, tensor in whole.state_dict().items()}
    torch.save({"state_dict": detector | {"neck.weight": torch.zeros(1)}}, tmp_path / "detector.pth")
    report = load_pretrained(backbone, tmp_path / "detector.pth")
    assert not report.missing and not report.mismatched
    assert all(torch.equal(tensor, whole.state_dict()[entry]) for entry, tensor in backbone.state_dict().items())
    if new:  # a file with some of what is new only is damaged
        del detector[f"backbone.{next(entry for entry in others if entry.startswith(new))}"]
        torch.save(detector, tmp_path / "damaged.pth")
        with pytest.raises(WeightsError, match="1 not in the file"):
            load_pretrained(backbone, tmp_path / "damaged.pth")


@pytest.mark.parametrize("name", DEBUG)
def test_without_classes_files_with_a_classifier_are_for_load_pretrained(name, tmp_path):
    model = create_model(name, num_classes=5)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="Try: load_pretrained, which leaves out the file's classifier"):
        load_weights(create_model(name, num_classes=0), tmp_path / "weights.pth")
    without = create_model(name, num_classes=0)
    load_pretrained(without, tmp_path / "weights.pth")
    torch.save(without.state_dict(), tmp_path / "features.pth")
    assert load_pretrained(create_model(name, num_classes=3), tmp_path / "features.pth").missing


@pytest.mark.parametrize("name", [name for name in DEBUG if takes_images(name)])
def test_a_network_on_frames_keeps_the_contract_too(name):
    torch.manual_seed(0)
    network = create_model(name, num_classes=5).double().eval()  # in float32 EurNet may choose other neighbors
    model = PerFrame(network)
    assert isinstance(model, Model) and isinstance(model, LayerDecay) == isinstance(network, LayerDecay)
    clips = torch.randn(2, 3, 3, 64, 70, dtype=torch.float64)
    with torch.inference_mode():
        maps = model.forward_pyramid(clips)
        for i, level in enumerate(maps):
            assert list(level.shape[2:]) == [3, *sides(name, (64, 70), model.pyramid_strides[i][1])]
            expected = network.forward_pyramid(clips[:, :, 1])[i]
            torch.testing.assert_close(level[:, :, 1], expected)
        features = model.forward_features(clips[..., :64])
    assert features.shape[2 if features.dim() == 5 else 1] == 3
    model.reset_classifier(0)
    assert model.num_classes == 0 and model(clips[..., :64]).shape == (2, model.num_features)


@pytest.mark.parametrize("name", [name for name in DEBUG if takes_images(name)])
def test_backbones_for_images_work_on_frames(name):
    torch.manual_seed(0)
    backbone = create_pyramid(name, (1, 2)).double().eval()
    model = PerFrame(backbone)
    assert isinstance(model, Pyramid) and model.pyramid_strides[0] == (1, *[backbone.pyramid_strides[0]] * 2)
    clips = torch.randn(2, 3, 3, 64, 70, dtype=torch.float64)
    with torch.inference_mode():
        levels, averaged = model(clips), TimeAveraged(model)(clips)
        for i, expected in enumerate(backbone(clips[:, :, 1])):
            torch.testing.assert_close(levels[i][:, :, 1], expected)
            torch.testing.assert_close(averaged[i], levels[i].mean(2))


@pytest.mark.parametrize("name", THEIR_NAMES)
def test_networks_of_other_libraries_keep_the_contract(name, tmp_path):
    torch.manual_seed(0)
    shape, pools_its_last_map = THEIRS[name]
    model = create_model(name, num_classes=5).eval()
    assert isinstance(model, Model) and model.model_name == name and takes_images(name) == (len(shape) == 3)
    if isinstance(model, LayerDecay):
        layers = {model.layer_of(entry) for entry, _ in model.named_parameters()}
        assert {0, model.num_layers} <= layers <= set(range(model.num_layers + 1))
    x = torch.randn(2, *shape)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    with torch.inference_mode():
        logits, features = model(x), model.forward_features(x)
        check_pyramid(name, model, shape[1:])
        if pools_its_last_map:
            last = model.forward_pyramid(x)[-1]
            torch.testing.assert_close(model.network.forward_head(last), logits)
        assert features.dim() in (3, x.dim()) and model.train()(x).shape == logits.shape == (2, 5)
        entries = set(model.state_dict())
        model.eval().reset_classifier(0)
        classifier = entries - set(model.state_dict())
        assert classifier == {entry for entry in entries if entry.startswith(model.classifier_names)} != set()
        assert model.num_classes == 0 and model(x).shape == (2, model.num_features)
    with pytest.raises(WeightsError, match="Try: load_pretrained, which leaves out the file's classifier"):
        load_weights(model, tmp_path / "weights.pth")
    load_pretrained(model, tmp_path / "weights.pth")
    other = create_model(name, num_classes=5).eval()
    load_weights(other, tmp_path / "weights.pth")
    with torch.inference_mode():
        assert torch.equal(other(x), logits)


@pytest.mark.parametrize("name", [name for name, (shape, _) in THEIRS.items() if len(shape) == 3])
def test_networks_of_other_libraries_work_on_frames(name, tmp_path):
    torch.manual_seed(0)
    shape, _ = THEIRS[name]
    network = create_model(name, num_classes=5).eval()
    model = PerFrame(network)
    assert isinstance(model, Model) and isinstance(model, LayerDecay) == isinstance(network, LayerDecay)
    clips = torch.randn(2, 3, 3, *shape[1:])
    with torch.inference_mode():
        torch.testing.assert_close(model(clips), torch.stack([network(clips[:, :, i]) for i in range(3)]).mean(0))
        expected = network.forward_pyramid(clips[:, :, 1])
        for level, frame in zip(model.forward_pyramid(clips), expected, strict=True):
            torch.testing.assert_close(level[:, :, 1], frame)
        features = model.forward_features(clips)
    assert features.shape[2 if features.dim() == 5 else 1] == 3
    torch.save(network.network.state_dict(), tmp_path / "plain.pth")
    assert load_pretrained(PerFrame(create_model(name, num_classes=5)), tmp_path / "plain.pth").misfits() == []
