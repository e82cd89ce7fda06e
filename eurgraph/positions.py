"""Converts EurNet's weights for other inputs: positions for images and clips of other sizes, image weights for clips.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (section 4.1)
Authors' code: https://github.com/hirl-team/EurNet-Image (branch pyg-cls, eurnet/backbones/eurnet.py)

Done differently here: sizes need not be square, and networks for clips start from those for images.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from eurgraph.grid import describe

if TYPE_CHECKING:
    from eurgraph.eurnet import EurNet

POSITION = "absolute_pos_embed"
TIME = "temporal_pos_embed"
RELATIVE_POSITION = ".relative_pos"


def resize_grid(position: torch.Tensor, old: Sequence[int], new: Sequence[int]) -> torch.Tensor:
    """Resizes positions bicubically to another grid: [1, H * W, C] -> [1, H' * W', C]."""
    if tuple(old) == tuple(new):
        return position
    grid = position.mT.unflatten(2, tuple(old))  # [1, N, C] -> [1, C, H, W]
    grid = F.interpolate(grid, size=tuple(new), mode="bicubic", align_corners=False)
    return grid.flatten(2).mT.contiguous()  # [1, C, H', W'] -> [1, N', C]


def resize_time(position: torch.Tensor, num_steps: int) -> torch.Tensor:
    """Resizes positions of frames linearly to another number of frames: [1, T, C] -> [1, T', C]."""
    if position.shape[1] == num_steps:
        return position
    return F.interpolate(position.mT, size=num_steps, mode="linear", align_corners=False).mT


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def resize_positions(
    weights: Mapping[str, torch.Tensor],
    model: "EurNet",
    image_size: int | Sequence[int] | None = None,
) -> dict[str, torch.Tensor]:
    """Converts weights trained on images of one size for a model of another size, as the authors do to fine-tune.

    Absolute positions are resized bicubically, those of frames linearly. Relative positions are not learned but
    computed, so they are the model's own.

    Args:
        weights: state dict of the trained network.
        model: the network that they are for.
        image_size: height and width that the weights were trained on, or one number for both. None: the model's own
            size if it has as many patches, otherwise square images.

    Returns:
        The new state dict; everything but positions is unchanged.

    Raises:
        ValueError: the weights have no absolute positions, those of a network for detection or segmentation, or not as
            many as images of that size have patches.
    """
    if POSITION not in weights:
        raise ValueError(f"the weights have no {POSITION!r}: they are not those of a EurNet")
    if weights[POSITION].dim() != 3:
        raise ValueError(
            f"{POSITION} has the shape {list(weights[POSITION].shape)}, which is that of a backbone for detection or "
            "segmentation; start a classifier from a classifier's file"
        )
    own = {name: tensor for name, tensor in model.state_dict().items() if name.endswith(RELATIVE_POSITION)}
    resized = {name: tensor for name, tensor in weights.items() if not name.endswith(RELATIVE_POSITION)} | own
    position = weights[POSITION]  # [1, N, C]
    num_patches, patch_size = position.shape[1], model.patch_embed.proj.stride[-1]
    new_shape = [size // patch_size for size in model.image_size]
    if image_size is not None:
        shape = [size // patch_size for size in pair(image_size)]
    elif num_patches == math.prod(new_shape):
        shape = new_shape
    else:
        shape = [math.isqrt(num_patches)] * 2
    if math.prod(shape) != num_patches:
        size = "square images" if image_size is None else f"images of {describe(pair(image_size))} pixels"
        raise ValueError(
            f"the weights have positions for {num_patches} patches, which {size} do not have: give the image_size that "
            "they were trained on"
        )
    resized[POSITION] = resize_grid(position, shape, new_shape)
    if TIME in weights and model.temporal_pos_embed is not None:
        resized[TIME] = resize_time(weights[TIME], model.temporal_pos_embed.shape[1])
    return resized


def inflate_weights(weights: Mapping[str, torch.Tensor], model: "EurNet") -> dict[str, torch.Tensor]:
    """Converts weights of an image network for clips, so that a still clip gets the features of the image.

    A tubelet sees the mean of its frames. Context convolutions start with only the frame itself, because a mean over
    frames would include zeros at the ends of a clip. The relations to the frames before and after start with weight 0
    (and scale 1, so that the weight learns), positions of frames with 0.

    Args:
        weights: state dict of an image network with `model`'s image size. One of a network for clips is not changed.
        model: the network for clips.
    """
    own = model.state_dict()
    inflated = dict(weights)
    if TIME not in own or TIME in weights:
        return inflated
    inflated[TIME] = torch.zeros_like(own[TIME], device="cpu")
    for name, weight in weights.items():
        shape = own[name].shape if name in own else weight.shape
        if weight.dim() == 4 and len(shape) == 5:
            num_steps = shape[2]
            inflated[name] = weight.new_zeros(*weight.shape[:2], num_steps, *weight.shape[2:])
            if name == "patch_embed.proj.weight":
                inflated[name] += (weight / num_steps).unsqueeze(2)
            else:
                inflated[name][:, :, num_steps // 2] = weight
        elif ".graph_conv.weight_linear." in name:
            before_and_after = weight.new_zeros(2, *weight.shape[1:])
            inflated[name] = torch.cat([before_and_after, weight])  # [R + 1, ...] -> [2 + R + 1, ...]
        elif name.endswith(".graph_conv.linear.weight"):
            num_new = shape[0] - weight.shape[0]
            inflated[name] = torch.cat([weight.new_ones(num_new, 1, 1), weight])  # [R * C, 1, 1] -> [(2 + R) * C, 1, 1]
    return inflated
