"""Converts weights of EurNet's classifiers for its dense network, which has larger and more contexts.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (sections 5.2 and 5.3)
Authors' code: https://github.com/hirl-team/EurNet-Image (branch det, mmcv_custom/checkpoint.py)

Done differently here: the weight of the classifier's context goes to the same convolution, so that the dense network
starts with the classifier's features. In theirs it goes to the last of the three, although the classifiers of EurNet-T
(one context) and -B (two) lack its kernels; for EurNet-S (three) both are the same.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from eurgraph.grid import describe
from eurgraph.positions import POSITION, RELATIVE_POSITION

if TYPE_CHECKING:
    from eurgraph.pyramid import EurNetPyramid

_KERNEL = re.compile(r"(.*\.graph_conv)\.context_layers\.(\d+)\.0\.weight")
_WEIGHT = re.compile(r"(.*\.graph_conv)\.weight_linear\.(?:weight|bias)")


class Conversion(NamedTuple):
    """Weights in the dense network's form, and what was done with the classifier's, a line for each kind of entry."""

    weights: dict[str, torch.Tensor]
    notes: list[str]


def convert(weights: Mapping[str, torch.Tensor], model: "EurNetPyramid") -> Conversion:
    """Converts a classifier's state dict to the dense network's; one of a dense network is returned unchanged.

    Positions [1, H * W, C] are resized bicubically to a table [1, C, 56, 56]. Kernels of contexts are padded with zeros
    or cropped, and keep their number. Rows of the relations' weights are copied; that of the context goes to the
    convolution that it belonged to, and further contexts start with weight 0. Relative positions are left out, because
    the dense network computes them.

    Raises:
        ValueError: the positions are not those of square images.
    """
    position = weights.get(POSITION)
    if position is None or position.dim() != 3:
        return Conversion(dict(weights), [])
    own = model.state_dict()
    side, size = math.isqrt(position.shape[1]), own[POSITION].shape[-1]
    how = "laid out on" if side == size else "resized bicubically to"
    changes: Counter[str] = Counter()
    converted = {name: tensor for name, tensor in weights.items() if not name.endswith(RELATIVE_POSITION)}
    converted[POSITION] = _as_table(position, size)
    _convert_contexts(converted, model, own, changes)
    left_out = [name for name in weights if name.endswith(RELATIVE_POSITION) or name.startswith(model.classifier_names)]
    missing = [name for name in own if name not in converted]
    notes = [f"{POSITION}: {side} x {side} patches {how} {size} x {size}"]
    notes += [f"{number} {change}" for change, number in changes.items()]
    notes += [f"{len(left_out)} left out: {_kinds(left_out)}"] if left_out else []
    notes += [f"{len(missing)} not in the file, at their initial values: {_kinds(missing)}"] if missing else []
    return Conversion(converted, notes)


def _convert_contexts(
    weights: dict[str, torch.Tensor], model: "EurNetPyramid", own: Mapping[str, torch.Tensor], changes: Counter[str]
) -> None:
    """Fits kernels and rows of weights to the dense network's, in place, and counts the kinds of changes."""
    kernels = {name: found for name in own if (found := _KERNEL.fullmatch(name))}
    num_contexts = 1 + max((int(found[2]) for name, found in kernels.items() if name in weights), default=-1)
    for name, found in kernels.items():
        if name in weights and weights[name].dim() == 4:
            changes[f"kernels of context {found[2]}: {_sizes(weights[name].shape, own[name].shape)}"] += 1
            weights[name] = _fit_kernel(weights[name], own[name].shape[2:])
        elif int(found[2]) >= num_contexts:
            weights[name] = own[name]
            changes[f"kernels of context {found[2]}: not in the file, at their initial values"] += 1
    for name, found in ((name, _WEIGHT.fullmatch(name)) for name in own):
        if not found or name not in weights or num_contexts == 0:
            continue
        num_relations = model.get_submodule(found[1]).num_relations
        if len(weights[name]) == num_relations + 1:
            context = num_contexts - 1
            weights[name] = _spread_rows(weights[name], len(own[name]), num_relations + context)
            changes[f"weights: rows of relations copied, that of the context to context {context}, others 0"] += 1


def _as_table(position: torch.Tensor, size: int) -> torch.Tensor:
    """[1, N, C] -> [1, C, size, size]."""
    side = math.isqrt(position.shape[1])
    if side**2 != position.shape[1]:
        raise ValueError(
            f"the weights have positions for {position.shape[1]} patches, which square images do not have: take them "
            "to square images first (eurgraph.resize_positions)"
        )
    table = position.mT.unflatten(2, (side, side))
    if side != size:
        table = F.interpolate(table, size=(size, size), mode="bicubic", align_corners=False)
    return table.contiguous()


def _fit_kernel(kernel: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Odd kernels [C, 1, k, k] to [C, 1, *size] with the same center: padded with zeros, or cropped."""
    height, width = ((new - old) // 2 for new, old in zip(size, kernel.shape[2:], strict=True))
    return F.pad(kernel, (width, width, height, height)).contiguous()


def _spread_rows(rows: torch.Tensor, num_rows: int, context: int) -> torch.Tensor:
    """Rows [R + 1, ...] to [num_rows, ...]: the last one at `context`, zeros from R on elsewhere."""
    spread = rows.new_zeros(num_rows, *rows.shape[1:])
    spread[: len(rows) - 1] = rows[:-1]
    spread[context] = rows[-1]
    return spread


def _sizes(old: torch.Size, new: torch.Size) -> str:
    if old == new:
        return f"{describe(old[2:])} as they are"
    return f"{describe(old[2:])} {'padded' if old[-1] < new[-1] else 'cut'} to {describe(new[2:])}"


def _kinds(names: list[str]) -> str:
    """The distinct names, with stars for stages and blocks."""
    return ", ".join(dict.fromkeys(re.sub(r"^stages\.\d+\.(blocks\.\d+\.)?", "stages.*.", name) for name in names))
