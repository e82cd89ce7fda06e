"""Detectors by name: against what the authors' networks give, and which files fit which detector."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from detection_scenes import gradients, made_batch, without_objects
from golden_maps import check_map
from golden_weights import input_for, read_golden, state_dict_for
from torch import nn

from dense.anchors import pyramid_anchors
from dense.paste import paste_masks
from dense.roi_pooling import level_of, pool_regions
from dense.structures import ImageShape, Targets
from detectors import HEADS, SPATIAL, create_detector, options_of, small_options
from models import (
    WeightsError,
    create_model,
    create_pyramid,
    list_models,
    load_pretrained,
    load_weights,
    takes_images,
)

GOLDENS = {
    "hornet_tiny_gf_cascade": ("hornet_tiny_gf", "cascade_mask_rcnn", "fpn", {"score_threshold": 0.0155}),
    "hornet_small_horfpn_gf_mask_rcnn": ("hornet_small_7x7", "mask_rcnn", "horfpn_gf", {}),
    "eurnet_tiny_mask_rcnn": ("eurnet_tiny", "mask_rcnn", "fpn", {}),
}
FEW = {"level_proposals": 90, "test_level_proposals": 90, "proposals": 30, "test_proposals": 30}
ALL = {"rpn_samples": 10**7, "region_samples": 10**7, "pad_multiple": None}
"""What the goldens change: few proposals, every anchor and region sampled, nothing padded."""
QUICK = "hornet_tiny_gf_cascade"


def golden_detector(name: str, without_roi_head: bool = False) -> tuple[nn.Module, dict[str, Any]]:
    """`without_roi_head`: that has no values, which would take most of the time of a brief test."""
    backbone, head, neck, own = GOLDENS[name]
    golden = read_golden(name)
    with torch.device("meta" if without_roi_head else "cpu"):
        model = create_detector(backbone, golden["num_classes"], head, neck, FEW | ALL | own)
    assert {entry: list(tensor.shape) for entry, tensor in model.state_dict().items()} == golden["state_dict"]
    for part, number in golden["params_by_part"].items():
        assert sum(parameter.numel() for parameter in getattr(model, part).parameters()) == number
    left_out = {entry for entry in golden["state_dict"] if without_roi_head and entry.startswith("roi_head.")}
    model.load_state_dict(state_dict_for(golden["state_dict"], skip=left_out), strict=not left_out, assign=True)
    return model.double().eval(), golden


def golden_inputs(golden: dict[str, Any]) -> tuple[torch.Tensor, list[ImageShape]]:
    shapes = [ImageShape(tuple(size), (golden["scale_factor"],) * 2) for size in golden["image_shapes"]]
    return input_for(golden["input_shape"], golden["input_seed"]).double(), shapes


def golden_targets(golden: dict[str, Any]) -> list[Targets]:
    """Boxes and labels of the file; masks are the ellipses in the boxes."""
    targets = []
    for (height, width), boxes, labels, areas in zip(
        golden["image_shapes"],
        golden["target_boxes"],
        golden["target_labels"],
        golden["target_mask_areas"],
        strict=True,
    ):
        y, x = np.mgrid[:height, :width]
        masks = [
            ((x - (x1 + x2) / 2) / ((x2 - x1) / 2)) ** 2 + ((y - (y1 + y2) / 2) / ((y2 - y1) / 2)) ** 2 <= 1
            for x1, y1, x2, y2 in boxes
        ]
        masks = torch.from_numpy(np.stack(masks)).to(torch.uint8)
        assert masks.sum((1, 2)).tolist() == areas
        targets.append(Targets(torch.tensor(boxes, dtype=torch.float64), torch.tensor(labels), masks))
    return targets


def differ(actual: torch.Tensor, printed: list) -> float:
    """Largest difference beyond the rounding of the printed numbers to 8 digits."""
    printed = torch.tensor(printed, dtype=torch.float64)
    rounding = 0.5 * 10 ** (printed.abs().clamp(min=1e-300).log10().floor() - 7)
    return ((actual.double() - printed).abs() - rounding).max().item()


def check_maps_and_proposals(
    name: str, without_roi_head: bool = False
) -> tuple[nn.Module, dict[str, Any], list[torch.Tensor], list[torch.Tensor]]:
    model, golden = golden_detector(name, without_roi_head)
    images, shapes = golden_inputs(golden)
    maps = model.neck(model.backbone.forward_pyramid(images))
    output = model.rpn_head(maps)
    for i, x in enumerate(maps):
        check_map(f"neck.{i}", x, golden["features"][f"neck.{i}"])
        check_map(f"cls.{i}", output.scores[i], golden["features"][f"rpn_head.cls.{i}"])
        check_map(f"reg.{i}", output.differences[i], golden["features"][f"rpn_head.reg.{i}"])
    anchors = pyramid_anchors(maps, model.neck.strides, model.rpn_head.rule.anchors, torch.float64)
    for own, expected in zip(anchors, golden["anchors"].values(), strict=True):
        assert len(own) == expected["num"]
        assert differ(own[:3], expected["first3"]) < 1e-12
        assert differ(own[-1], expected["last"]) < 1e-12
    proposals = model.rpn_head.scored_proposals(output, shapes)
    for (boxes, scores), expected in zip(proposals, golden["proposals"], strict=True):
        assert len(boxes) == expected["num"]
        found = torch.cat((boxes, scores[:, None]), dim=1)
        assert differ(found[: len(expected["first10"])], expected["first10"]) < 5e-6
        assert differ(found.sum(0), expected["sum"]) < 30 * 5e-6
    return model, golden, maps, [boxes for boxes, _ in proposals]


def test_neck_region_proposals_and_state_dict_are_the_authors():
    with torch.inference_mode():
        check_maps_and_proposals(QUICK, without_roi_head=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDENS)
def test_detections_are_the_authors(name):
    with torch.inference_mode():
        model, golden, maps, proposals = check_maps_and_proposals(name)
        _, shapes = golden_inputs(golden)
        check_heads(model, golden, maps)
        found = model.roi_head.detect(maps, proposals, shapes)
    for detections, shape, expected in zip(found, shapes, golden["detections_rescaled"], strict=True):
        assert len(detections.scores) == expected["num"]
        top = torch.tensor(expected["top10_class_box_score_maskarea"], dtype=torch.float64)
        number = len(top)
        assert torch.equal(detections.labels[:number], top[:, 0].long())
        assert differ(detections.boxes[:number], top[:, 1:5].tolist()) < 5e-6
        assert differ(detections.scores[:number], top[:, 5].tolist()) < 2e-8
        assert differ(detections.scores.sum(), expected["sum_scores"]) < 1e-6
        size = tuple(round(side / golden["scale_factor"]) for side in shape.size)
        areas = paste_masks(detections.masks, detections.boxes, size).sum((1, 2))
        assert (areas[:number] - top[:, 6]).abs().max() <= 2
        assert abs(areas.sum() - expected["sum_mask_areas"]) <= 2 * number


def check_heads(model: nn.Module, golden: dict[str, Any], maps: list[torch.Tensor]) -> None:
    """Levels, pooled regions and outputs of every head for the golden's fixed regions."""
    head, features = model.roi_head, golden["features"]
    regions = torch.tensor(golden["fixed_rois"], dtype=torch.float64)
    assert level_of(regions, head.strides).tolist() == golden["fixed_rois_level"]
    pooled = pool_regions(maps, regions, head.strides, 7)
    check_map("roi_7x7", pooled, features["roi_7x7"])
    is_cascade = isinstance(head.bbox_head, nn.ModuleList)
    stages = zip(head.bbox_head, head.mask_head, strict=True) if is_cascade else [(head.bbox_head, head.mask_head)]
    for number, (for_boxes, for_masks) in enumerate(stages):
        entry = f".{number}" if is_cascade else ""
        logits, differences = for_boxes(pooled)
        check_map("cls", logits, features[f"bbox_head{entry}.cls"])
        check_map("reg", differences, features[f"bbox_head{entry}.reg"])
        masks = for_masks(pool_regions(maps, regions, head.strides, 14))
        check_map("mask", masks, features[f"mask_head{entry}"])


@pytest.mark.slow
@pytest.mark.parametrize("name", GOLDENS)
def test_losses_and_gradients_are_the_authors(name):
    model, golden = golden_detector(name)
    images, shapes = golden_inputs(golden)
    losses = model.train()(images, shapes, golden_targets(golden))
    expected = {entry: sum(values) for entry, values in golden["losses"].items() if "acc" not in entry}
    assert losses.keys() == expected.keys()
    for entry, value in losses.items():
        assert value.item() == pytest.approx(expected[entry], rel=1.5e-7), entry
    assert sum(losses.values()).item() == pytest.approx(golden["total_loss"], rel=1e-7)
    for entry, gradient in gradients(model, losses).items():
        if entry in golden["grad_norms"]:
            norm = 0.0 if gradient is None else gradient.norm().item()  # theirs is 0 for what no output depends on
            assert norm == pytest.approx(golden["grad_norms"][entry], rel=1.5e-7, abs=1e-14), entry
        else:
            assert entry in golden["no_gradient"], entry


@pytest.mark.parametrize(
    "head, neck", [*((head, "fpn") for head in HEADS), *(("mask_rcnn", neck) for neck in SPATIAL if neck != "fpn")]
)
def test_every_head_on_every_neck_learns_and_detects(head, neck):
    torch.manual_seed(0)
    model = create_detector("hornet_debug_7x7", 3, head, neck, small_options(head) | {"score_threshold": 0.0})
    images, shapes, targets = made_batch()
    for own in (targets, [without_objects(target) for target in targets]):
        found = gradients(model, model(images, shapes, own))
        unused = {"backbone.norm0."} if head == "retinanet" else set()  # the level of stride 4
        for entry, gradient in found.items():
            assert (gradient is None) == entry.startswith(tuple(unused)), entry
    detections = model.eval()(images, shapes)
    assert all(len(own.scores) > 0 for own in detections)
    assert all((own.masks is not None) == ("mask" in head) for own in detections)
    assert model.num_classes == 3


@pytest.mark.parametrize(
    "backbone, head, neck, millions, options",
    [
        ("hornet_tiny_7x7", "cascade_mask_rcnn", "fpn", 79.88, {}),
        ("hornet_tiny_gf", "cascade_mask_rcnn", "fpn", 80.47, {}),
        ("hornet_small_7x7", "cascade_mask_rcnn", "fpn", 106.87, {}),
        ("hornet_small_gf", "cascade_mask_rcnn", "fpn", 107.74, {}),
        ("hornet_base_7x7", "cascade_mask_rcnn", "fpn", 144.47, {}),
        ("hornet_base_gf", "cascade_mask_rcnn", "fpn", 145.63, {}),
        ("hornet_large_7x7", "cascade_mask_rcnn", "fpn", 251.49, {}),
        ("hornet_large_gf", "cascade_mask_rcnn", "fpn", 258.75, {"image_size": 384}),
        ("hornet_small_7x7", "mask_rcnn", "fpn", 69.03, {}),
        ("hornet_small_7x7", "mask_rcnn", "horfpn_7x7", 67.67, {}),
        ("hornet_small_7x7", "mask_rcnn", "horfpn_gf", 68.44, {}),
        ("eurnet_tiny", "mask_rcnn", "fpn", 49.78, {}),
        ("eurnet_small", "mask_rcnn", "fpn", 72.85, {}),
        ("eurnet_base", "mask_rcnn", "fpn", 112.13, {}),
    ],
)
def test_parameters_are_as_many_as_published(backbone, head, neck, millions, options):
    with torch.device("meta"):
        model = create_detector(backbone, 80, head, neck, **options)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions


def test_the_backbone_is_built_once(monkeypatch):
    """A first one, to learn the strides, has no memory."""
    built = []
    monkeypatch.setattr(
        "detectors.create_pyramid", lambda *args, **options: built.append(create_pyramid(*args, **options)) or built[-1]
    )
    model = create_detector("glnet_debug", 3, "retinanet", head_options=small_options("retinanet"))
    assert [network.pyramid_strides for network in built] == [(4, 8, 16, 32), (8, 16, 32)]
    assert [next(network.parameters()).is_meta for network in built] == [True, False] and model.backbone is built[1]


def test_levels_that_no_head_takes_are_not_built():
    """Distributed training would wait for their gradients: EAT's first level has a stride of 2."""
    model = create_detector("eat_debug", 3, head_options=small_options("mask_rcnn"))
    assert min(model.backbone.pyramid_strides) == 4
    images, shapes, targets = made_batch()
    found = gradients(model, model(images, shapes, targets))
    assert all(found[entry] is not None for entry in found if entry.startswith("backbone."))


@pytest.mark.parametrize("name", [name for name in list_models("*_debug*") if takes_images(name)])
def test_every_family_learns_and_detects_at_odd_sizes(name):
    torch.manual_seed(0)
    images, shapes, targets = made_batch()
    model = create_detector(name, 3, head_options=small_options("mask_rcnn") | {"score_threshold": 0.0})
    losses = model(images[..., :71, :101], [shape._replace(size=(65, 90)) for shape in shapes], targets)
    found = gradients(model, losses)
    assert all(found[entry].abs().sum() > 0 for entry in found if entry.startswith("neck."))
    detections = model.eval()(images[..., :65, :97])
    assert all(len(own.scores) > 0 for own in detections)


@pytest.mark.parametrize("head", HEADS)
def test_objects_without_area_are_not_trained_on(head):
    images, shapes, targets = made_batch()
    model = create_detector("hornet_debug_7x7", 3, head, head_options=small_options(head))
    boxes = torch.cat((targets[0].boxes[:1], torch.tensor([[60.0, 20, 60, 70]])))
    one, found = Targets(*(field[:1] for field in targets[0][:3])), []
    for first in (one, targets[0]._replace(boxes=boxes)):
        torch.manual_seed(0)
        found.append(model(images, shapes, [first, targets[1]]))
    assert found[0] and all(loss.isfinite() for loss in found[0].values())
    torch.testing.assert_close(*found)


def test_released_files_load_by_their_names(tmp_path):
    torch.manual_seed(0)
    model, other = (create_detector("hornet_debug_gf", 3, head_options=small_options("mask_rcnn")) for _ in range(2))
    content = {"meta": {"epoch": 12, "CLASSES": ("a", "b", "c")}, "state_dict": model.state_dict(), "optimizer": {}}
    torch.save(content, tmp_path / "epoch_12.pth")
    report = load_weights(other, tmp_path / "epoch_12.pth")
    assert not report.misfits()
    assert len(report.loaded) == len(model.state_dict())
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("backbone", ["glnet_debug", "hornet_debug_gf", "eurnet_debug", "eat_debug"])
def test_files_of_the_backbone_start_a_detector(backbone, tmp_path):
    torch.manual_seed(0)
    options = small_options("retinanet")
    classifier = create_model(backbone, num_classes=5)
    torch.save({"model": classifier.state_dict()}, tmp_path / "classifier.pth")
    model = create_detector(backbone, 3, "retinanet", "fpn", options, tmp_path / "classifier.pth")
    own = model.backbone.state_dict()
    same = [name for name, tensor in classifier.state_dict().items() if name in own and own[name].shape == tensor.shape]
    assert len(same) > 0.8 * len(classifier.state_dict())
    for name in same:
        assert torch.equal(own[name], classifier.state_dict()[name]), name
    torch.save(create_pyramid(backbone).state_dict(), tmp_path / "pyramid.pth")
    assert load_pretrained(model, tmp_path / "pyramid.pth").loaded == [f"backbone.{name}" for name in own]
    message = "contains a backbone or a classifier, without a detector's neck and heads; start the detector from it"
    with pytest.raises(WeightsError, match=message):
        load_weights(model, tmp_path / "classifier.pth")


@pytest.mark.parametrize("head", HEADS)
def test_files_with_other_classes_lend_everything_but_the_classifiers(head, tmp_path):
    torch.manual_seed(0)
    options = small_options(head)
    model = create_detector("hornet_debug_7x7", 3, head, head_options=options)
    torch.save(model.state_dict(), tmp_path / "three.pth")
    other = create_detector("hornet_debug_7x7", 5, head, head_options=options, weights=tmp_path / "three.pth")
    for name, tensor in model.state_dict().items():
        same = other.state_dict()[name].shape == tensor.shape and torch.equal(other.state_dict()[name], tensor)
        assert same != (name.startswith(model.classifier_names) and tensor.shape != other.state_dict()[name].shape)
    with pytest.raises(WeightsError, match="for 3 classes, but the model for 5; build it with num_classes=3"):
        load_weights(other, tmp_path / "three.pth")
    other.reset_classifier(3)
    assert other.num_classes == 3
    assert not load_weights(other, tmp_path / "three.pth").misfits()


def test_files_of_something_else_are_refused_by_what_they_are(tmp_path):
    model = create_detector("hornet_debug_7x7", 3, head_options=small_options("mask_rcnn"))
    backbone = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.")}
    torch.save(backbone | {"decode_head.conv_seg.weight": torch.zeros(3, 4, 1, 1)}, tmp_path / "segmentor.pth")
    message = "segmentor.pth: does not fit mask_rcnn on hornet_debug_7x7: the file is for a segmentor, but the model is"
    for load in (load_weights, load_pretrained):
        with pytest.raises(WeightsError, match=message):
            load(model, tmp_path / "segmentor.pth")
    for head, kind in (
        ("cascade_mask_rcnn", "a Cascade R-CNN"),
        ("faster_rcnn", "a Faster R-CNN"),
        ("retinanet", "a RetinaNet"),
    ):
        other = create_detector("hornet_debug_7x7", 3, head, head_options=small_options(head))
        torch.save(other.state_dict(), tmp_path / "other.pth")
        with pytest.raises(WeightsError, match=f"is for {kind}, but the model is a Mask R-CNN; .*head='{head}'"):
            load_pretrained(model, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"of another shape: neck\.lateral_convs\.0\.conv\.weight"):
        create_detector("hornet_debug_7x7", 3, "retinanet", weights=tmp_path / "other.pth")


def test_a_copy_adapts_files_to_itself():
    model = create_detector("hornet_debug_gf", 3, head_options=small_options("mask_rcnn"))
    copied = copy.deepcopy(model)
    copied.reset_classifier(5)
    copied.adapt_weights(copied.state_dict())
    with pytest.raises(ValueError, match="the file is for 3 classes, but the model for 5"):
        copied.adapt_weights(model.state_dict())


@pytest.mark.parametrize("head", ["mask_rcnn", "retinanet"])
def test_a_network_for_clips_carries_a_head_when_time_is_averaged(head):
    images, shapes, targets = made_batch()
    clips = images.unsqueeze(2).repeat(1, 1, 4, 1, 1)
    model = create_detector("glore_resnet_debug_3d", 3, head, head_options=small_options(head), time="mean")
    assert all(value.isfinite() for value in model(clips, shapes, targets).values())
    assert len(model.eval()(clips)) == len(clips)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"head": "mask_rnn"}, "no detection head is called 'mask_rnn'; did you mean 'mask_rcnn'"),
        ({"neck": "horfpn"}, "no neck is called 'horfpn'; did you mean 'horfpn_"),
        ({"head_options": {"mask_conv": 1}}, "no option of mask_rcnn is called 'mask_conv'; did you mean 'mask_convs'"),
        ({"head": "retinanet", "head_options": {"proposals": 5}}, "no option of retinanet is called 'proposals'"),
        ({"head": "faster_rcnn", "head_options": {"mask_convs": 1}}, "no option of faster_rcnn is called 'mask_convs'"),
        ({"head_options": {"norm": "layer"}}, "norm is 'layer'; expected one of batch, group, frozen"),
        ({"drop": 0.1}, "no option of hornet_debug_7x7 is called 'drop'"),
        ({"num_classes": 0}, "num_classes is 0; it must be a whole number of at least 1"),
        ({"num_classes": True}, "num_classes is True; it must be a whole number of at least 1"),
    ],
)
def test_wrong_names_are_answered_with_the_nearest(arguments, message):
    with pytest.raises(ValueError, match=message):
        create_detector("hornet_debug_7x7", **{"num_classes": 3} | arguments)


IMPOSSIBLE = {
    "whole number of at least 1": {"channels": 0, "rpn_samples": 1.5, "proposals": 0, "box_fcs": None},
    "whole number of at least 0": {"box_convs": 0.5, "mask_convs": -1},
    "number above 0": {"anchor_scale": -4},
    "number of at least 0": {"rpn_beta": math.nan},
    "number of pixels": {"allowed_border": "none"},
    "number from 0 to 1": {"score_threshold": 2, "nms_iou": 5, "ignored_fraction": True},
}


@pytest.mark.parametrize("words", IMPOSSIBLE)
def test_impossible_values_of_options_are_named(words):
    for name, value in IMPOSSIBLE[words].items():
        with pytest.raises(ValueError, match=f"^{name} is {value!r}; it must be a {words}$"):
            create_detector("hornet_debug_7x7", 3, head_options={name: value})


@pytest.mark.parametrize("head", HEADS)
def test_every_option_is_checked(head):
    for name in options_of(head):
        with pytest.raises(ValueError, match=f"^{name} is -inf; "):
            create_detector("hornet_debug_7x7", 3, head, head_options={name: -math.inf})


class Strides(nn.Module):
    """A backbone of such strides."""

    def __init__(self, *strides):
        super().__init__()
        self.pyramid_strides, self.pyramid_channels = strides, (4,) * len(strides)
        if all(isinstance(stride, int) for stride in strides):
            self.convs = nn.ModuleList(nn.Conv2d(3, 4, stride, stride) for stride in strides)

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [conv(x) for conv in self.convs]


def test_backbones_of_other_strides():
    images, shapes, targets = made_batch()
    for head in ("mask_rcnn", "retinanet"):
        for strides in ((2, 4, 8), (4, 8, 8, 8), (16,)):
            model = create_detector(Strides(*strides), 3, head, head_options=small_options(head))
            used = [stride for stride in strides if stride >= (8 if head == "retinanet" else 4)]
            assert model.neck.strides[: model.neck.num_inputs] == tuple(used)
            assert all(value.isfinite() for value in model(images, shapes, targets).values())
            model.eval()(images, shapes)
    with pytest.raises(
        ValueError, match=r"Strides has levels of strides \(2, 4\); retinanet takes levels from stride 8"
    ):
        create_detector(Strides(2, 4), 3, "retinanet")
    with pytest.raises(ValueError, match="Strides is for clips"):
        create_detector(Strides((1, 4, 4)), 3)
    with pytest.raises(ValueError, match="drop_path: only a backbone given by its name is built with options"):
        create_detector(Strides(4), 3, drop_path=0.1)


def test_layers_decay_as_the_backbones():
    model = create_detector("eurnet_debug", 3, head_options=small_options("mask_rcnn"))
    assert model.layer_of("roi_head.bbox_head.fc_cls.weight") == model.num_layers
    for name, _ in model.backbone.named_parameters():
        assert model.layer_of(f"backbone.{name}") == model.backbone.layer_of(name)


def test_the_released_settings():
    assert create_detector("hornet_debug_7x7", 80).rpn_head.rule.train_proposals == (2000, 1000, 0.7)
    cascade = create_detector("hornet_debug_7x7", 80, "cascade_mask_rcnn")
    assert cascade.rpn_head.rule.train_proposals == (2000, 2000, 0.7)
    assert cascade.rpn_head.rule.anchors.allowed_border == 0
    assert cascade.rpn_head.rule.beta == 1 / 9
    assert cascade.roi_head.rule.sample == (512, 0.25)
    assert "proposals" not in options_of("retinanet")


def test_the_number_of_classes_may_be_one_of_numpy():
    assert create_detector("hornet_debug_7x7", head="retinanet", num_classes=np.int64(3)).num_classes == 3


@pytest.mark.parametrize("head", HEADS)
def test_an_empty_batch_has_no_detections(head):
    model = create_detector("hornet_debug_gf", 3, head, "horfpn_gf", small_options(head)).eval()
    assert model(torch.zeros(0, 3, 64, 64)) == []
