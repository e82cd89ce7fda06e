"""Detectors by name: any backbone of `models.create_pyramid` under any detection head.

>>> model = create_detector("hornet_debug_7x7", num_classes=7, head_options=small_options("mask_rcnn"))
>>> detections = model.eval()(torch.zeros(1, 3, 65, 97))
>>> detections[0].boxes.shape[1]
4
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from backbones.hornet import DepthwiseConv, GlobalLocalFilter
from backbones.prefixed import prefixed
from dense.anchors import AnchorRule
from dense.assign import MatchRule
from dense.cascade import CascadeHead
from dense.fpn import FPN, conv3x3
from dense.gnconv import GNConvModule
from dense.layers import whole
from dense.mask_rcnn import MaskRCNNHead
from dense.proposals import DetectionRule, ProposalRule
from dense.retinanet import RetinaHead, RetinaNet, RetinaRule
from dense.roi_head import CASCADE_STAGES, RoIRule, RoISizes, StageRule
from dense.rpn import RPNHead, RPNRule
from dense.sample import SampleRule
from dense.two_stage import TwoStageDetector
from dense.weight_kinds import with_kind_check
from models import TIMM, create_pyramid, load_pretrained
from settings import unknown_name


class HeadOptions(NamedTuple):
    """Sizes and limits of neck and heads. The defaults are those of mask_rcnn; `HEADS` has what others change."""

    channels: int = 256
    """Channels of every map from the neck on."""
    fc_channels: int = 1024
    """Channels of the linear layers that classify regions."""
    box_convs: int = 0
    box_fcs: int = 2
    """Layers before the outputs for classes and boxes of regions."""
    mask_convs: int | None = 4
    """Convolutions of the mask head; None: no masks."""
    retina_convs: int = 4
    """Convolutions of each of RetinaNet's towers."""
    norm: str | None = None
    """Of all convolutions in neck and heads, see `dense.layers.NORMS`; None: as the authors, only in a cascade."""
    anchor_scale: float | None = None
    """Side of the square anchors, in strides; for RetinaNet, of the smallest. None: 8, for RetinaNet 4."""
    allowed_border: int = -1
    """Anchors that extend beyond the image by more pixels than this are not trained on; negative: all are."""
    pad_multiple: int | None = 32
    """Anchors beyond an image, padded until this divides its sides, are not trained on either; None: all are."""
    ignored_fraction: float | None = None
    """Boxes of which crowds cover a larger fraction are not trained on; None: crowds change nothing (authors)."""
    rpn_beta: float = 0.0
    """Smooth L1's beta for regions; 0: L1."""
    rpn_samples: int = 256
    """Anchors per image that region proposals are trained on; at most half of them positive."""
    level_proposals: int = 2000
    test_level_proposals: int = 1000
    """Proposals of each level before non-maximum suppression, in training and at test time."""
    proposals: int = 1000
    test_proposals: int = 1000
    """Proposals per image after it, in training and at test time."""
    proposal_nms_iou: float = 0.7
    region_samples: int = 512
    """Regions per image that the second stage is trained on; at most a quarter of them positive."""
    score_threshold: float = 0.05
    """Detections have scores above this."""
    nms_iou: float = 0.5
    """Of two detections of a class that overlap by more than this, the better one is kept."""
    max_detections: int = 100
    """Per image."""


HEADS = {
    "mask_rcnn": HeadOptions(),
    "faster_rcnn": HeadOptions(mask_convs=None),
    "cascade_mask_rcnn": HeadOptions(rpn_beta=1 / 9, allowed_border=0, proposals=2000, box_convs=4, box_fcs=1),
    "retinanet": HeadOptions(mask_convs=None),
}
"""What each head's configurations set: EurNet's and HorNet's, and for RetinaNet mmdetection's."""

_OPTIONAL = ("mask_convs", "norm", "anchor_scale", "pad_multiple", "ignored_fraction")
"""Options that may be None."""
_LEAST = {"box_convs": 0, "mask_convs": 0, "retina_convs": 0}
_LEAST |= dict.fromkeys(("channels", "fc_channels", "box_fcs", "pad_multiple", "rpn_samples", "level_proposals"), 1)
_LEAST |= dict.fromkeys(("test_level_proposals", "proposals", "test_proposals", "region_samples", "max_detections"), 1)
"""Options that are whole numbers -> the least."""
_NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    "anchor_scale": (lambda value: 0 < value < math.inf, "above 0"),
    "allowed_border": (lambda value: abs(value) < math.inf, "of pixels"),
    "rpn_beta": (lambda value: 0 <= value < math.inf, "of at least 0"),
    **dict.fromkeys(
        ("ignored_fraction", "proposal_nms_iou", "score_threshold", "nms_iou"),
        (lambda value: 0 <= value <= 1, "from 0 to 1"),
    ),
}
"""Other numbers -> which are accepted, in code and in words."""

_RETINANET_ALONE = {"retina_convs"}
_WITH_MASKS = {"mask_convs"}
_TWO_STAGE = {
    *("fc_channels", "box_convs", "box_fcs", "rpn_beta", "rpn_samples", "level_proposals", "proposals"),
    *("test_proposals", "proposal_nms_iou", "region_samples"),
}


def options_of(head: str) -> list[str]:
    """The fields of `HeadOptions` that a head of `HEADS` reads."""
    without = _TWO_STAGE if head == "retinanet" else _RETINANET_ALONE
    if HEADS[head].mask_convs is None:
        without = without | _WITH_MASKS
    return [name for name in HeadOptions._fields if name not in without]


def small_options(head: str) -> dict[str, Any]:
    """Options of a head for tests and laptops: 64 channels, group norm, few layers and few proposals."""
    small = {"channels": 64, "fc_channels": 128, "mask_convs": 1, "retina_convs": 1, "norm": "group"}
    small |= {"rpn_samples": 64, "region_samples": 64, "proposals": 64, "test_proposals": 64}
    small |= {"level_proposals": 128, "test_level_proposals": 128}
    if HEADS[head].box_convs > 0:
        small["box_convs"] = 1
    return {name: value for name, value in small.items() if name in options_of(head)}


SPATIAL: dict[str, Callable[[int], nn.Module] | None] = {
    "fpn": None,
    "horfpn_7x7": partial(DepthwiseConv, scale=1),
    "horfpn_gf": partial(GlobalLocalFilter, size=32, scale=1),
}
"""Necks: FPN, and HorFPN by the spatial operator of its gated convolutions."""

FINEST_STRIDE = {"retinanet": 8}
"""The finest level that a head takes, if not that of stride 4."""


def create_detector(
    backbone: str | nn.Module,
    num_classes: int,
    head: str = "mask_rcnn",
    neck: str = "fpn",
    head_options: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    **options: Any,
) -> TwoStageDetector | RetinaNet:
    """Builds a detector with fresh heads.

    Args:
        backbone: a name for `models.create_pyramid`, or a network with `forward_pyramid`.
        num_classes: K, without the background.
        head: one of `HEADS`.
        neck: one of `SPATIAL`.
        head_options: fields of `HeadOptions` that differ from the head's own in `HEADS`; see `options_of`.
        weights: a file to start from, read by `models.load_pretrained`: of the backbone or its classifier, or of a
            detector like this one, with any number of classes.
        options: further arguments of the backbone's builder.

    Raises:
        ValueError: unknown backbone, head, neck or option, an option's value out of range, or no class.
        WeightsError: the file is missing or broken, or does not fit.
    """
    _check("detection head", head, HEADS)
    _check("neck", neck, SPATIAL)
    num_classes = whole("num_classes", num_classes)
    for name in head_options or ():
        _check(f"option of {head}", name, options_of(head))
    chosen = _checked(HEADS[head]._replace(**head_options or {}))
    name = backbone if isinstance(backbone, str) else type(backbone).__name__
    if isinstance(backbone, str):
        backbone = _backbone_for(backbone, head, options)
    elif options:
        given = ", ".join(options)
        raise ValueError(f"{given}: only a backbone given by its name is built with options; build {name} with them")
    necks = build_neck(name, backbone, neck, head, chosen)
    build = _retinanet if head == "retinanet" else _two_stage
    model = build(backbone, necks, num_classes, head, chosen)
    if hasattr(backbone, "adapt_weights"):
        with_kind_check(prefixed(model, "backbone."), num_classes_of, "create_detector")
    model.head_names = ("neck.", "rpn_head.", "roi_head.", "bbox_head.")
    model.model_name = f"{head} on {name}"
    if weights is not None:
        load_pretrained(model, weights)
    return model


def _check(what: str, name: str, choices: Any) -> None:
    if name not in choices:
        raise ValueError(unknown_name(what, name, choices))


def _checked(options: HeadOptions) -> HeadOptions:
    """The options, their whole numbers as Python's. Raises ValueError for the first with an impossible value."""
    for name, value in options._asdict().items():
        if value is None and name in _OPTIONAL:
            continue
        if name in _LEAST:
            options = options._replace(**{name: whole(name, value, _LEAST[name])})
        elif name in _NUMBERS:
            accepts, words = _NUMBERS[name]
            if isinstance(value, bool) or not isinstance(value, Real) or not accepts(value):
                raise ValueError(f"{name} is {value!r}; it must be a number {words}")
    return options


def _backbone_for(name: str, head: str, options: Mapping[str, Any]) -> nn.Module:
    """The backbone without levels too fine for the head: distributed training would wait for their gradients."""
    if "out_indices" in options or name.startswith(TIMM):
        return create_pyramid(name, **options)
    with torch.device("meta"):  # only to find out the strides
        strides = create_pyramid(name, **options).pyramid_strides
    finest = FINEST_STRIDE.get(head, 4)
    wanted = [i for i, stride in enumerate(strides) if isinstance(stride, int) and stride >= finest]
    return create_pyramid(name, **({"out_indices": wanted} if 0 < len(wanted) < len(strides) else {}), **options)


def build_neck(name: str, backbone: nn.Module, neck: str, head: str, options: HeadOptions) -> FPN:
    """The neck between a backbone of this name and a head.

    Raises:
        ValueError: the backbone's levels do not suit the head.
    """
    strides, finest = backbone.pyramid_strides, FINEST_STRIDE.get(head, 4)
    if not all(isinstance(stride, int) for stride in strides):
        raise ValueError(f"{name} is for clips, with levels of strides {strides}; a detector takes images")
    start = next((i for i, stride in enumerate(strides) if stride >= finest), None)
    if start is None:
        raise ValueError(f"{name} has levels of strides {strides}; {head} takes levels from stride {finest} on")
    spatial = SPATIAL[neck]
    conv = partial(conv3x3, norm=options.norm)
    if spatial is not None:
        conv = partial(GNConvModule, spatial=spatial, norm=options.norm)
    one_stage = head == "retinanet"
    num_levels = len(strides) - start + (2 if one_stage else 1)
    extra = "conv" if one_stage else "pool"
    levels = backbone.pyramid_channels, strides
    return FPN(*levels, options.channels, num_levels, start, conv, extra, options.norm)


def _two_stage(backbone: nn.Module, neck: FPN, num_classes: int, head: str, options: HeadOptions) -> TwoStageDetector:
    is_cascade = head == "cascade_mask_rcnn"
    iou = options.proposal_nms_iou
    rpn_rule = RPNRule(
        _anchors(options, AnchorRule()),
        MatchRule(0.7, 0.3, 0.3, ignored_fraction=options.ignored_fraction),
        SampleRule(options.rpn_samples, 0.5),
        options.rpn_beta,
        ProposalRule(options.level_proposals, options.proposals, iou),
        ProposalRule(options.test_level_proposals, options.test_proposals, iou),
    )
    stages = CASCADE_STAGES if is_cascade else (StageRule(),)
    stages = [stage._replace(match=stage.match._replace(ignored_fraction=options.ignored_fraction)) for stage in stages]
    roi_rule = RoIRule(tuple(stages), SampleRule(options.region_samples, 0.25), _detection(options))
    box_norm = options.norm or ("batch" if is_cascade else None)
    sizes = RoISizes(
        options.box_convs, options.box_fcs, options.fc_channels, box_norm, options.mask_convs, options.norm
    )
    build = CascadeHead if is_cascade else MaskRCNNHead
    roi_head = build(options.channels, num_classes, neck.strides[: neck.num_inputs], roi_rule, sizes)
    return TwoStageDetector(backbone, neck, RPNHead(options.channels, neck.strides, rpn_rule), roi_head)


def _retinanet(backbone: nn.Module, neck: FPN, num_classes: int, head: str, options: HeadOptions) -> RetinaNet:
    default = RetinaRule()
    rule = default._replace(
        anchors=_anchors(options, default.anchors),
        match=default.match._replace(ignored_fraction=options.ignored_fraction),
        max_per_level=options.test_level_proposals,
        detection=_detection(options),
    )
    bbox_head = RetinaHead(options.channels, num_classes, neck.strides, rule, options.retina_convs, options.norm)
    return RetinaNet(backbone, neck, bbox_head)


def _anchors(options: HeadOptions, default: AnchorRule) -> AnchorRule:
    scales = default.scales
    if options.anchor_scale is not None:
        scales = tuple(scale / scales[0] * options.anchor_scale for scale in scales)
    return AnchorRule(scales, default.ratios, options.allowed_border, options.pad_multiple)


def _detection(options: HeadOptions) -> DetectionRule:
    return DetectionRule(options.score_threshold, options.nms_iou, options.max_detections)


def num_classes_of(weights: Mapping[str, torch.Tensor], model: nn.Module) -> int:
    """The number of classes of a detector's state dict, which is of the same kind as the model."""
    names = ("roi_head.bbox_head.fc_cls.weight", "roi_head.bbox_head.0.fc_cls.weight")
    for name in names:
        if name in weights:
            return len(weights[name]) - 1  # without the background
    if (name := "bbox_head.retina_cls.weight") in weights:
        return len(weights[name]) // model.bbox_head.num_anchors
    return model.num_classes
