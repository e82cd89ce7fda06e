"""Segmentors by name, against what the authors' networks give."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from golden_maps import check_map
from golden_weights import input_for, read_golden, state_dict_for
from torch import nn

from dense.segmentation_loss import segmentation_losses
from dense.segmentor import slide
from models import WeightsError, create_model, create_pyramid, list_models, load_pretrained, load_weights, takes_images
from segmentors import HEADS, create_segmentor, head_of

GOLDENS = {
    "hornet_tiny_gf_upernet": ("hornet_tiny_gf", "upernet", {"image_size": 384}),
    "hornet_small_horfpn_7x7_upernet": ("hornet_small_7x7", "upernet_horfpn_7x7", {}),
    "eurnet_tiny_upernet": ("eurnet_tiny", "upernet", {"windows": "authors"}),
}


def build(name: str, **options: Any) -> nn.Module:
    backbone, head, own = GOLDENS[name]
    return create_segmentor(backbone, num_classes=150, head=head, dropout=0.0, **own, **options)


def with_weights(name: str) -> tuple[nn.Module, dict[str, Any]]:
    golden = read_golden(name)
    model = build(name)
    assert {entry: list(tensor.shape) for entry, tensor in model.state_dict().items()} == golden["state_dict"]
    model.load_state_dict(state_dict_for(golden["state_dict"]))
    return model.double().eval(), golden


def target_of(golden: dict[str, Any]) -> torch.Tensor:
    """The labels of the golden losses: squares of 16 pixels, a tenth of the pixels ignored."""
    random = np.random.RandomState(golden["input_seed"] + 200)
    batch, _, height, width = golden["input_shape"]
    coarse = random.randint(0, golden["num_classes"], [batch, 1, -(-height // 16), -(-width // 16)])
    labels = coarse.repeat(16, 2).repeat(16, 3)[:, :, :height, :width]
    labels[random.uniform(size=labels.shape) < 0.1] = 255
    return torch.from_numpy(labels[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDENS)
def test_maps_and_logits_are_the_authors(name):
    model, golden = with_weights(name)
    features, images = golden["features"], input_for(golden["input_shape"]).double()
    with torch.inference_mode():
        levels = model.backbone.forward_pyramid(images)
        for i, level in enumerate(levels):
            check_map(f"backbone.{i}", level, features[f"backbone.{i}"])
        head = model.decode_head
        check_map("psp", head.pool(levels[-1]), features["decode_head.psp"])
        fused = head.fuse(levels)
        check_map("before_classifier", fused, features["decode_head.before_classifier"])
        check_map("logits", head.conv_seg(fused), features["decode_head.logits"])
        check_map("auxiliary", model.auxiliary_head(levels), features["auxiliary_head.logits"])
        prediction = model(images).argmax(1)
        if "slide_logits" in features:
            check_map("slide_logits", slide(model, images, (64, 64), (48, 48)), features["slide_logits"])
    classes = golden["prediction"]["class_of_pixels"]
    places = torch.linspace(0, prediction.numel() - 1, len(classes), dtype=torch.float64).round().long()
    assert prediction.flatten()[places].tolist() == classes
    assert prediction.unique().numel() == golden["prediction"]["num_different_classes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDENS)
def test_losses_and_gradients_are_the_authors(name):
    model, golden = with_weights(name)
    model.train()
    images = input_for(golden["input_shape"]).double()
    losses = segmentation_losses(model(images), target_of(golden))
    assert deviation_of(losses["decode"], golden["losses"]["decode.loss_ce"][0]) < 1e-7
    assert deviation_of(losses["auxiliary"], golden["losses"]["aux.loss_ce"][0]) < 1e-7
    sum(losses.values()).backward()
    for entry, parameter in model.named_parameters():
        if entry in golden["grad_norms"]:
            norm = torch.zeros(()) if parameter.grad is None else parameter.grad.norm()  # EurNet freezes an entry at 0
            assert deviation_of(norm, golden["grad_norms"][entry]) < 2e-7, entry
        else:
            assert entry in golden["no_gradient"], entry


def deviation_of(actual: torch.Tensor, expected: float) -> float:
    """Relative difference beyond the rounding of the golden number to 8 digits; what cancels to nothing is equal."""
    if max(abs(actual.item()), abs(expected)) < 1e-14:
        return 0.0
    return max(0.0, abs(actual.item() - expected) / abs(expected) - 1e-7)


SMALL = {"channels": 16, "auxiliary_channels": 8}


@pytest.mark.parametrize(
    ("backbone", "millions", "options"),
    [
        ("eurnet_tiny", 61.93, {}),
        ("eurnet_small", 85.00, {}),
        ("eurnet_base", 126.26, {}),
        ("hornet_tiny_7x7", 52.21, {}),
        ("hornet_tiny_gf", 54.63, {"image_size": 384}),
        ("hornet_small_7x7", 81.18, {}),
        ("hornet_small_gf", 84.81, {"image_size": 384}),
        ("hornet_base_7x7", 120.77, {}),
        ("hornet_base_gf", 125.61, {"image_size": 384}),
        ("hornet_large_7x7", 231.77, {}),
        ("hornet_large_gf", 239.03, {"image_size": 384}),
        ("hornet_small_7x7 upernet_horfpn_7x7", 74.28, {}),
        ("hornet_small_7x7 upernet_horfpn_gf", 74.66, {}),
    ],
)
def test_parameters_are_as_many_as_published(backbone, millions, options):
    name, _, head = backbone.partition(" ")
    with torch.device("meta"):
        model = create_segmentor(name, 150, head or "upernet", **options)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("name", [name for name in list_models("*_debug*") if takes_images(name)])
@pytest.mark.parametrize("head", ["upernet", "glore"])
def test_every_family_learns_and_segments_at_odd_sizes(name, head):
    torch.manual_seed(0)
    model = create_segmentor(name, 3, head, dropout=0.0, **SMALL)
    outputs = model(torch.randn(2, 3, 45, 71))
    (outputs.decode.square().mean() + outputs.auxiliary.square().mean()).backward()
    without = [
        entry for entry, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert without == []  # distributed training waits for all
    with torch.no_grad():
        assert model.eval()(torch.randn(1, 3, 33, 64)).shape == (1, 3, 33, 64)


@pytest.mark.parametrize("head", HEADS)
def test_an_empty_batch_gives_empty_maps(head):
    model = create_segmentor("eurnet_debug", 3, head, **SMALL)
    assert model(torch.zeros(0, 3, 64, 96)).decode.shape[:2] == (0, 3)
    assert model.eval()(torch.zeros(0, 3, 64, 96)).shape == (0, 3, 64, 96)


def test_global_filters_in_backbone_and_head_segment_in_bfloat16():
    model = create_segmentor("hornet_debug_gf", 3, "upernet_horfpn_gf", **SMALL).bfloat16().eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 64).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("head", HEADS)
def test_files_with_other_classes_lend_everything_but_the_classifiers(head, tmp_path):
    torch.manual_seed(0)
    model = create_segmentor("hornet_debug_7x7", 3, head, **SMALL)
    assert head_of(model.state_dict()) == head
    content = {"meta": {"CLASSES": ("a", "b", "c")}, "state_dict": model.state_dict(), "optimizer": {}}
    torch.save(content, tmp_path / "three.pth")
    other = create_segmentor("hornet_debug_7x7", 5, head, weights=tmp_path / "three.pth", **SMALL)
    outputs = []
    for name, tensor in model.state_dict().items():
        own = other.state_dict()[name]
        assert torch.equal(own, tensor) if own.shape == tensor.shape else name.startswith(model.classifier_names)
        outputs += [] if own.shape == tensor.shape else [name]
    assert len(outputs) == 4  # weight and bias of both heads
    with pytest.raises(WeightsError, match="for 3 classes, but the model for 5; build it with num_classes=3"):
        load_weights(other, tmp_path / "three.pth")
    other.reset_classifier(3)
    assert other.num_classes == 3 and other.auxiliary_head.num_classes == 3
    assert not load_weights(other, tmp_path / "three.pth").misfits()
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "backbone", ["glnet_debug", "hornet_debug_gf", "eurnet_debug", "eat_debug", "glore_resnet_debug"]
)
def test_files_of_the_backbone_start_a_segmentor(backbone, tmp_path):
    torch.manual_seed(0)
    classifier = create_model(backbone, num_classes=5)
    torch.save({"model": classifier.state_dict()}, tmp_path / "classifier.pth")
    model = create_segmentor(backbone, 3, weights=tmp_path / "classifier.pth", **SMALL)
    own = model.backbone.state_dict()
    same = [name for name, tensor in classifier.state_dict().items() if name in own and own[name].shape == tensor.shape]
    assert len(same) > 0.8 * len(classifier.state_dict())
    assert all(torch.equal(own[name], classifier.state_dict()[name]) for name in same)
    torch.save(create_pyramid(backbone).state_dict(), tmp_path / "pyramid.pth")
    assert load_pretrained(model, tmp_path / "pyramid.pth").loaded == [f"backbone.{name}" for name in own]
    message = "contains a backbone or a classifier, without a segmentor's neck and heads; start the segmentor from it"
    with pytest.raises(WeightsError, match=message):
        load_weights(model, tmp_path / "classifier.pth")


def test_files_of_something_else_are_refused_by_what_they_are(tmp_path):
    model = create_segmentor("hornet_debug_7x7", 3, **SMALL)
    backbone = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.")}
    for entry, kind in (
        ("roi_head.bbox_head.0.fc_cls.weight", "a Cascade R-CNN"),
        ("roi_head.bbox_head.fc_cls.weight", "a Faster R-CNN"),
        ("bbox_head.retina_cls.weight", "a RetinaNet"),
    ):
        torch.save(backbone | {entry: torch.zeros(3, 4)}, tmp_path / "detector.pth")
        message = (
            f"detector.pth: does not fit upernet on hornet_debug_7x7: the file is for {kind}, but the model is a seg"
        )
        for load in (load_weights, load_pretrained):
            with pytest.raises(WeightsError, match=message):
                load(model, tmp_path / "detector.pth")
    for head in set(HEADS) - {"upernet"}:
        torch.save(create_segmentor("hornet_debug_7x7", 3, head, **SMALL).state_dict(), tmp_path / "other.pth")
        for load in (load_weights, load_pretrained):
            with pytest.raises(WeightsError, match=f"a segmentor with the head {head}, but the model has upernet"):
                load(model, tmp_path / "other.pth")


def test_only_one_of_file_and_model_has_an_auxiliary_head(tmp_path):
    both = create_segmentor("hornet_debug_7x7", 3, **SMALL)
    alone = create_segmentor("hornet_debug_7x7", 3, channels=16, auxiliary_channels=0)
    torch.save(both.state_dict(), tmp_path / "both.pth"), torch.save(alone.state_dict(), tmp_path / "alone.pth")
    with pytest.raises(WeightsError, match=r"the file has an auxiliary head, but the model has none; .*channels=8"):
        load_weights(alone, tmp_path / "both.pth")
    with pytest.raises(WeightsError, match=r"the file has no auxiliary head, but the model has one; .*channels=0"):
        load_pretrained(both, tmp_path / "alone.pth")


@pytest.mark.slow
@pytest.mark.parametrize("holder", ["", "module."])
def test_the_names_that_glores_segmentation_likely_has(holder, tmp_path):
    """`pretrained.`, `head.`, and `fc_2` in the unit; beside them the classifier that the backbone was trained with."""
    torch.manual_seed(0)
    ours = create_segmentor("dilated_resnet50", 19, "glore", channels=16)
    theirs = {"pretrained.fc.weight": torch.zeros(1000, 2048), "pretrained.fc.bias": torch.zeros(1000)}
    for name, tensor in ours.state_dict().items():
        name = name.replace("backbone.", "pretrained.").replace("decode_head.", "head.").replace("conv_extend", "fc_2")
        theirs[name] = tensor
    assert "head.gcn.GCN00.fc_2.weight" in theirs and "head.conv6.1.weight" in theirs
    torch.save({"state_dict": {holder + name: tensor for name, tensor in theirs.items()}}, tmp_path / "glore.pth")
    other = create_segmentor("dilated_resnet50", 19, "glore", channels=16)
    assert not load_weights(other, tmp_path / "glore.pth").misfits()
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in ours.state_dict().items())
    report = load_pretrained(create_segmentor("dilated_resnet50", 7, "glore", channels=16), tmp_path / "glore.pth")
    assert [name for name, _, _ in report.mismatched] == ["decode_head.conv6.1.weight", "decode_head.conv6.1.bias"]
    with pytest.raises(WeightsError, match=r"of another shape: decode_head\.conv51"):
        load_weights(create_segmentor("dilated_resnet50", 19, "glore", channels=32), tmp_path / "glore.pth")


def test_a_copy_adapts_files_to_itself():
    model = create_segmentor("hornet_debug_7x7", 3, **SMALL)
    copied = copy.deepcopy(model)
    copied.reset_classifier(5)
    copied.adapt_weights(copied.state_dict())
    with pytest.raises(ValueError, match="the file is for 3 classes, but the model for 5"):
        copied.adapt_weights(model.state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head": "upernett"}, "no segmentation head is called 'upernett'; did you mean 'upernet'"),
        ({"norm": "layer"}, "norm is 'layer'; expected one of batch, group, frozen"),
        ({"drop": 0.1}, "no option of hornet_debug_7x7 is called 'drop'"),
        ({"num_classes": 0}, "num_classes is 0; it must be a whole number of at least 1"),
        ({"num_classes": True}, "num_classes is True; it must be a whole number of at least 1"),
        ({"channels": 0}, "channels is 0; it must be a whole number of at least 1"),
        ({"auxiliary_channels": -1}, "auxiliary_channels is -1; it must be a whole number of at least 0"),
    ],
)
def test_wrong_names_are_answered_with_the_nearest(arguments, message):
    with pytest.raises(ValueError, match=message):
        create_segmentor("hornet_debug_7x7", **{"num_classes": 3} | arguments)


def test_a_network_for_clips_carries_a_head_when_time_is_averaged():
    model = create_segmentor("glore_resnet_debug_3d", 5, channels=16, auxiliary_channels=0, time="mean")
    clips = torch.randn(2, 3, 4, 64, 48)
    assert model(clips).decode.shape == (2, 5, 16, 12)
    assert model.eval()(clips).shape == (2, 5, 64, 48)
    assert slide(model, clips, (32, 32), (16, 16)).shape == (2, 5, 64, 48)


def test_a_network_for_clips_and_options_of_a_built_backbone_are_refused():
    with pytest.raises(ValueError, match="glore_resnet_debug_3d is for clips"):
        create_segmentor("glore_resnet_debug_3d", 3)
    with pytest.raises(ValueError, match="drop_path: only a backbone given by its name is built with options"):
        create_segmentor(create_pyramid("hornet_debug_7x7"), 3, drop_path=0.1)


def test_heads_on_the_coarsest_level_build_no_others():
    assert create_segmentor("hornet_debug_7x7", 3, "glore", channels=16).backbone.pyramid_strides == (32,)
    assert create_segmentor("hornet_debug_7x7", 3, "fcn", **SMALL).backbone.pyramid_strides == (16, 32)
    given = create_segmentor("hornet_debug_7x7", 3, "fcn", out_indices=(1, 2), **SMALL)
    assert given.backbone.pyramid_strides == (8, 16)


def test_layers_decay_as_the_backbones():
    model = create_segmentor("eurnet_debug", 3, **SMALL)
    assert model.layer_of("decode_head.conv_seg.weight") == model.num_layers
    for name, _ in model.backbone.named_parameters():
        assert model.layer_of(f"backbone.{name}") == model.backbone.layer_of(name)
