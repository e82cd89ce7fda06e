"""Converts the weights in MXNet files to those of our image networks.

Names of ResNets with units are those of the copies that `resnet2d.py` and `preact_unit.py` mention, names of dual path
networks those of https://github.com/cypw/DPNs (settings/symbol_basic.py, symbol_dpn.py).

Assumed, because no public source says it: in SE-ResNets, gates are called `<block>_se_fc1` and `_se_fc2`, as in
https://github.com/facebookresearch/OctConv; in dual path networks with units, units are called as in ResNets, with
`conv-tail-res` and `conv-tail-den` for the projections back.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from glore3d.image_network import ImageNetwork
from glore3d.mxnet_files import MXNetFileError

LEAVES = {
    "bn.weight": ("gamma",),
    "bn.bias": ("beta",),
    "bn.running_mean": ("moving_mean",),
    "bn.running_var": ("moving_var",),
    "weight": ("weight",),
    "bias": ("bias",),
}
UNIT_PARTS = {
    "conv_state": "conv-state",
    "conv_proj": "conv-proj",
    "gcn.conv1": "GCN-G",
    "gcn.conv2": "GCN-GHW",
    "conv_extend": "fc-2",
    "conv_extend.residual": "conv-tail-res",
    "conv_extend.dense": "conv-tail-den",
}
DUAL_PATH_PARTS = {"conv_m1": "c1x1-a", "conv_m2": "c3x3-b", "conv_m3": "c1x1-c"}


def possible_names(entry: str) -> list[str]:
    """The names that an entry of our state dict may have in a file. A file has at most one of them.

    >>> possible_names("conv3.B01_extra.gcn.conv1.bn.running_var")[0]
    'conv3_B01_extra_GCN-G_bn_moving_var'
    """
    part, _, leaf = entry.rpartition(".")
    if part.endswith(".bn") or part == "bn":
        part, leaf = part.removesuffix(".bn"), f"bn.{leaf}"
    is_conv = part.endswith(".conv")
    (leaf,) = LEAVES[leaf]
    step = part.removesuffix(".conv")
    if step == "classifier":
        return [f"{name}_{leaf}" for name in ("classifier", "fc6", "fc6-1k")]
    if ".squeeze." in step:
        return [f"{step.replace('.squeeze.', '_se_').replace('.', '_')}_{leaf}"]
    names = []
    for layer in _layer_names(step):
        names += [f"{layer}_conv_{leaf}", f"{layer}__conv_{leaf}"] if is_conv else []
        names += [] if is_conv else [f"{layer}{norm}_{leaf}" for norm in ("_bn", "__bn__bn", "__bn")]
    return names


def _layer_names(step: str) -> list[str]:
    """The names of one of our steps in ResNets and in dual path networks."""
    if step == "conv1":
        return ["conv1", "conv1_x_1", "conv1_x_1__relu-sp"]
    if step == "tail":
        return ["tail", "conv5_x_x__relu-sp"]
    stage, block, part = step.split(".", 2)
    block, _, extra = block.partition("_")
    prefixes = [f"{stage}_{block}", f"{stage}_x__{int(block[1:])}"]
    if extra:
        return [f"{prefix}_extra_{UNIT_PARTS[part]}" for prefix in prefixes]
    dual = DUAL_PATH_PARTS.get(part) or f"c1x1-w(s/{1 if stage == 'conv2' else 2})"
    return [f"{prefixes[0]}_{part.replace('_', '-')}", f"{prefixes[1]}_{dual}"]


def to_state_dict(params: Mapping[str, np.ndarray], model: ImageNetwork) -> dict[str, torch.Tensor]:
    """The arrays of a file (`read_params`) as a state dict of `model`, in which every array must have a place.

    Matrices of fully connected layers and kernels of one or two axes get or lose axes of length 1.

    Raises:
        MXNetFileError: arrays are missing, left over, or of the wrong shape.
    """
    left = dict(params)
    state, missing, misshapen = {}, [], []
    for entry, own in model.state_dict().items():
        if entry.endswith("num_batches_tracked"):
            state[entry] = torch.zeros_like(own)  # no result depends on it
            continue
        names = possible_names(entry)
        found = next((name for name in names if name in left), None)
        if found is None:
            missing.append(f"{entry} (looked for {names[0]})")
            continue
        array = left.pop(found)
        if _without_ones(array.shape) != _without_ones(own.shape):
            misshapen.append(f"{found} {list(array.shape)}, {entry} {list(own.shape)} in the model")
            continue
        state[entry] = torch.from_numpy(array.astype(np.float32)).reshape(own.shape)
    lines = [
        *_line("of the model's entries are not in the file", missing),
        *_line("arrays of the file fit nowhere in the model", list(left)),
        *_line("arrays have a different shape", misshapen),
    ]
    if lines:
        raise MXNetFileError("\n".join(["the file does not fit the model:", *lines]))
    return state


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape without axes of length 1 at its end."""
    sides = list(shape)
    while len(sides) > 1 and sides[-1] == 1:
        sides.pop()
    return tuple(sides)


def _line(what: str, entries: list[str]) -> list[str]:
    more = f" and {len(entries) - 4} more" if len(entries) > 4 else ""
    return [f"{len(entries)} {what}: {', '.join(entries[:4])}{more}"] if entries else []
