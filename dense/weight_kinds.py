"""Which network a weight file is for: a segmentor, one of the detectors, or neither; and files that do not fit."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

Weights = Mapping[str, torch.Tensor]
Adapt = Callable[..., dict[str, torch.Tensor]]

SEGMENTOR = "a segmentor"
MADE_BY = {
    SEGMENTOR: "segmentors.create_segmentor builds the network for it",
    "a Cascade R-CNN": "detectors.create_detector(..., head='cascade_mask_rcnn') builds the network for it",
    "a Mask R-CNN": "detectors.create_detector(..., head='mask_rcnn') builds the network for it",
    "a Faster R-CNN": "detectors.create_detector(..., head='faster_rcnn') builds the network for it",
    "a RetinaNet": "detectors.create_detector(..., head='retinanet') builds the network for it",
}
"""Kind of network that a state dict is for -> how to build it."""


def kind_of(weights: Weights) -> str | None:
    """The kind of network that a state dict is for, a key of `MADE_BY`; None: neither a segmentor nor a detector."""
    if any(name.startswith("decode_head.") for name in weights):
        return SEGMENTOR
    if any(name.startswith("roi_head.bbox_head.0.") for name in weights):
        return "a Cascade R-CNN"
    if any(name.startswith("bbox_head.retina_") for name in weights):
        return "a RetinaNet"
    if any(name.startswith("roi_head.") for name in weights):
        has_masks = any(name.startswith("roi_head.mask_head.") for name in weights)
        return "a Mask R-CNN" if has_masks else "a Faster R-CNN"
    return None


def check_kind(
    model: nn.Module,
    count_classes: Callable[[Weights, nn.Module], int],
    builder: str,
    adapt: Adapt,
    weights: Weights,
    resize: bool = False,
) -> dict[str, torch.Tensor]:
    """Converts the state dict of such a network, or of its backbone, to the model's: `models.Model.adapt_weights`.

    Args:
        model: a detector or segmentor.
        count_classes: (state dict of the same kind, model) -> its number of classes.
        builder: the function that builds such models and takes `weights`, for messages.
        adapt: that of `backbones.prefixed`.
        weights, resize: see `models.Model.adapt_weights`.

    Raises:
        ValueError: the file is for something else, or for another number of classes if it must fit (not `resize`).
    """
    theirs, ours = kind_of(weights), kind_of(model.state_dict())
    network = SEGMENTOR if ours == SEGMENTOR else "a detector"
    start_from = f"{builder}(weights=...), or load_pretrained"
    if theirs is None and not resize:
        raise ValueError(
            f"the file contains a backbone or a classifier, without {network}'s neck and heads; start the "
            f"{network.removeprefix('a ')} from it: {start_from}"
        )
    if theirs not in (None, ours):
        raise ValueError(f"the file is for {theirs}, but the model is {ours}; {MADE_BY[theirs]}")
    if theirs is not None and not resize and (classes := count_classes(weights, model)) != model.num_classes:
        raise ValueError(
            f"the file is for {classes} classes, but the model for {model.num_classes}; build it with "
            f"num_classes={classes}, or fine-tune from the file: {start_from}"
        )
    return adapt(weights, resize=resize)


def with_kind_check(
    model: nn.Module, count_classes: Callable[[Weights, nn.Module], int], builder: str, prepare: Callable | None = None
) -> None:
    """Puts `check_kind` before the model's own `adapt_weights`; `prepare` (model, weights) -> weights comes first.

    A partial object, not a closure, so that a copy of the model (a moving average) uses its own.
    """
    adapt = partial(check_kind, model, count_classes, builder, model.adapt_weights)
    model.adapt_weights = adapt if prepare is None else partial(_prepared, model, prepare, adapt)


def _prepared(
    model: nn.Module, prepare: Callable, adapt: Adapt, weights: Weights, resize: bool = False
) -> dict[str, torch.Tensor]:
    return adapt(prepare(model, weights), resize=resize)
