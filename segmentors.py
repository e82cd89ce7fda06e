"""Segmentors by name: any backbone of `models.create_pyramid` under any segmentation head.

>>> model = create_segmentor("hornet_debug_7x7", num_classes=7, channels=32)
>>> model.eval()(torch.zeros(1, 3, 65, 97)).shape
torch.Size([1, 7, 65, 97])
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from backbones.hornet import DepthwiseConv, GlobalLocalFilter
from backbones.prefixed import prefixed
from dense.fcn import FCNHead, GloReHead
from dense.fpn import FPN
from dense.gnconv import GNConvModule
from dense.layers import whole
from dense.segmentor import Segmentor
from dense.semantic_fpn import SemanticFPNHead
from dense.upernet import UPerHead
from dense.weight_kinds import with_kind_check
from glore3d.unit import GloReUnit
from models import NUM_LEVELS, TIMM, create_pyramid, load_pretrained
from settings import unknown_name

HEAD_OPTIONS = ("channels", "auxiliary_channels", "dropout", "norm")
"""The arguments of `create_segmentor` for the heads."""

NUM_NODES = 64
"""Nodes of the unit in GloRe's segmentation head; an assumption, see `dense.fcn.GloReHead`."""


class Head(NamedTuple):
    """What a head's name stands for."""

    build: Callable[..., nn.Module]
    """(channels of the levels, num_classes, channels=, dropout=, norm=) -> the head."""
    channels: int
    """Channels of its maps in the paper."""
    neck_channels: int | None = None
    """Channels of the FPN under it; None: it takes the backbone's levels."""
    auxiliary_channels: int = 0
    """Channels of the auxiliary head on the last but one level in the paper; 0: no such head."""
    takes_coarsest: bool = False
    """Whether it takes only the coarsest level."""


def _unit(channels: int) -> nn.Module:
    return GloReUnit(channels, max(1, channels * NUM_NODES // 512), dim=2, normalize=True)


def _horfpn(*levels: Any, spatial: Callable[[int], nn.Module], norm: str, **options: Any) -> nn.Module:
    """UPerNet that fuses its levels with a recursive gated convolution."""
    fusion = partial(GNConvModule, spatial=spatial, norm=norm, activation=True)
    return UPerHead(*levels, norm=norm, fusion=fusion, **options)


HEADS = {
    "upernet": Head(UPerHead, 512, auxiliary_channels=256),
    "upernet_horfpn_7x7": Head(partial(_horfpn, spatial=partial(DepthwiseConv, scale=1)), 512, auxiliary_channels=256),
    "upernet_horfpn_gf": Head(
        partial(_horfpn, spatial=partial(GlobalLocalFilter, size=32, scale=1)), 512, auxiliary_channels=256
    ),
    "semantic_fpn": Head(SemanticFPNHead, 128, neck_channels=256),
    "glore": Head(partial(GloReHead, unit=_unit), 512, takes_coarsest=True),
    "fcn": Head(partial(FCNHead, level=-1, num_convs=2), 512, auxiliary_channels=256, takes_coarsest=True),
}
"""Heads by name: UPerNet, its two variants in HorNet's paper, Semantic FPN (GLNet's likely setting), GloRe's, FCN."""


def create_segmentor(
    backbone: str | nn.Module,
    num_classes: int,
    head: str = "upernet",
    channels: int | None = None,
    auxiliary_channels: int | None = None,
    dropout: float = 0.1,
    norm: str = "batch",
    weights: str | Path | None = None,
    **options: Any,
) -> Segmentor:
    """Builds a segmentor with fresh heads.

    Args:
        backbone: a name for `models.create_pyramid`, or a network with `forward_pyramid`.
        num_classes: K.
        head: one of `HEADS`.
        channels: channels of the head's maps; None: as in the paper. An FPN under it has twice as many.
        auxiliary_channels: channels of the auxiliary head, which only training uses; 0: no such head; None: as in the
            paper.
        dropout: fraction of the channels dropped before the classifiers in training.
        norm: of the heads' convolutions: batch, group or frozen, see `dense.layers.NORMS`.
        weights: a file to start from, read by `models.load_pretrained`: of the backbone or its classifier, or of a
            segmentor like this one, with any number of classes.
        options: further arguments of the backbone's builder.

    Raises:
        ValueError: unknown backbone, head or option, or a value out of range.
        WeightsError: the file is missing or broken, or does not fit.
    """
    if head not in HEADS:
        raise ValueError(unknown_name("segmentation head", head, HEADS))
    num_classes = whole("num_classes", num_classes)
    for option, value, least in (("channels", channels, 1), ("auxiliary_channels", auxiliary_channels, 0)):
        if value is not None:
            whole(option, value, least)
    chosen = HEADS[head]
    name = backbone if isinstance(backbone, str) else type(backbone).__name__
    if auxiliary_channels is None:
        auxiliary_channels = chosen.auxiliary_channels
    backbone = _backbone_for(name, backbone, chosen.takes_coarsest, 2 if auxiliary_channels else 1, options)
    channels = channels or chosen.channels
    levels, neck = backbone.pyramid_channels, None
    if chosen.neck_channels is not None:
        width = channels * chosen.neck_channels // chosen.channels
        neck = FPN(levels, backbone.pyramid_strides, width, num_levels=len(levels))
        levels = (width,) * len(levels)
    decode_head = chosen.build(levels, num_classes, channels=channels, dropout=dropout, norm=norm)
    auxiliary_head = None
    if auxiliary_channels:
        auxiliary_head = FCNHead(levels, num_classes, channels=auxiliary_channels, dropout=dropout, norm=norm)
    model = Segmentor(backbone, decode_head, auxiliary_head, neck)
    if hasattr(backbone, "adapt_weights"):
        with_kind_check(prefixed(model, "backbone."), num_classes_of, "create_segmentor", prepare=_with_our_names)
    model.head_names = ("neck.", "decode_head.", "auxiliary_head.")
    model.model_name = f"{head} on {name}"
    if weights is not None:
        load_pretrained(model, weights)
    return model


def _backbone_for(
    name: str, backbone: str | nn.Module, takes_coarsest: bool, num_coarsest: int, options: Mapping[str, Any]
) -> nn.Module:
    """The backbone, built if it is a name.

    Unused levels are left out: distributed training would wait for their gradients.
    """
    if isinstance(backbone, str):
        if takes_coarsest and not name.startswith(TIMM):
            options = {"out_indices": range(NUM_LEVELS - num_coarsest, NUM_LEVELS)} | dict(options)
        backbone = create_pyramid(backbone, **options)
    elif options:
        given = ", ".join(options)
        raise ValueError(f"{given}: only a backbone given by its name is built with options; build {name} with them")
    if not all(isinstance(stride, int) for stride in backbone.pyramid_strides):
        raise ValueError(
            f"{name} is for clips, with levels of strides {backbone.pyramid_strides}; a segmentor takes images"
        )
    return backbone


def _with_our_names(model: Segmentor, weights: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """A state dict with this suite's names, converted from those that GloRe's segmentation likely has (an assumption).

    Raises:
        ValueError: it is from a segmentor with another head, or only one of file and model has an auxiliary head.
    """
    if any(name.startswith("head.gcn.") for name in weights):
        weights = {_renamed(name): tensor for name, tensor in weights.items() if not name.startswith(UNUSED)}
    theirs, ours = head_of(weights), head_of(model.state_dict())
    if theirs not in (None, ours):
        raise ValueError(f"the file is from a segmentor with the head {theirs}, but the model has {ours}")
    width = next((len(t) for name, t in weights.items() if name.startswith("auxiliary_head.convs.0.conv.")), 0)
    has_auxiliary = model.auxiliary_head is not None
    if theirs is not None and bool(width) != has_auxiliary:
        file, own = ("an", "none") if width else ("no", "one")
        raise ValueError(
            f"the file has {file} auxiliary head, but the model has {own}; build it with auxiliary_channels={width}"
        )
    return weights


UNUSED = ("pretrained.fc.",)
"""Leftovers of a classifier in a segmentor's file."""
GLORE_PREFIXES = {"pretrained.": "backbone.", "head.": "decode_head."}


def _renamed(name: str) -> str:
    for theirs, ours in GLORE_PREFIXES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs).replace(".fc_2.", ".conv_extend.")
    return name


def head_of(weights: Mapping[str, torch.Tensor]) -> str | None:
    """The head in `HEADS` that a segmentor's state dict has; None: none of them. Distinguishes HorFPN's two."""
    own = {name.removeprefix("decode_head.") for name in weights if name.startswith("decode_head.")}
    for start, head in HEAD_ENTRIES.items():
        if any(name.startswith(start) for name in own):
            return head
    return None


HEAD_ENTRIES = {
    "fpn_bottleneck.dwconv.complex_weight": "upernet_horfpn_gf",
    "fpn_bottleneck.dwconv.": "upernet_horfpn_7x7",
    "psp_modules.": "upernet",
    "scale_heads.": "semantic_fpn",
    "conv51.": "glore",
    "convs.": "fcn",
}
"""Prefix of an entry that only this head has; the first one found counts."""


def num_classes_of(weights: Mapping[str, torch.Tensor], model: Segmentor) -> int:
    """The number of classes of a segmentor's state dict with the model's head."""
    classifier = next(name for name in model.state_dict() if name.startswith(model.classifier_names[0]))
    return len(weights[classifier]) if classifier in weights else model.num_classes
