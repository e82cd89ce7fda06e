"""EurNet as the backbone of detectors and segmentors: a norm on the last map of each stage, and no classifier.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (sections 5.2 and 5.3)
Authors' code: https://github.com/hirl-team/EurNet-Image (branch det, eurnet_det/eurnet_det.py; the same in branch seg)

Besides norms and head, it differs from the classifier in three ways, as theirs does: the nearest patches are searched
in windows and among patches of the same parity (eurgraph/windows.py); all three contexts of a block are updates, not
only the last; positions are a table of 56 x 56, resized for every image.

Done differently here: windows cover the whole map unless the authors' are requested; stages after the last requested
level are not built; virtual nodes have no states of their own, as in eurgraph/eurnet.py. Parameter names are the
authors'. Their files load strictly; `adapt_weights` converts those of classifiers (eurgraph/conversion.py).
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from eurgraph.conversion import convert
from eurgraph.eurnet import BASE, DEBUG, SMALL, TINY, EurNet, EurNetStage, PatchEmbed, Stage
from eurgraph.grid_conv import init_linear_layers
from eurgraph.windows import WindowedNearestPatches

PATCH_SIZE = 4
POSITIONS = 56
CONTEXT_SIZES = (9, 11, 13)
WINDOW_LENGTH = 144
MIN_SIZE = 32


class EurNetPyramid(nn.Module):
    """The stages of `EurNet`; level i is the map of stage i, normalized over its channels. The next stage gets it raw.

    >>> model = EurNetPyramid(DEBUG, out_indices=(1, 3), context_sizes=(3, 5, 7))
    >>> [list(level.shape) for level in model(torch.randn(2, 3, 64, 100))]
    [[2, 32, 8, 13], [2, 128, 2, 4]]

    Args:
        stages: the rows of the network's table.
        out_indices: the stages, from 0, whose maps are the levels; increasing.
        context_sizes: kernel sizes of the context convolutions in every block, in order.
        drop_path: rate of stochastic depth in the last block of the whole network; it grows evenly from 0.
        windows, window_length: where nearest patches are searched, see `WindowedNearestPatches`. Use `authors` for
            files of the authors' detectors and segmentors, `tiled` to train your own.
        init_std: standard deviation of the initial weights of linear layers; see `EurNet`.

    Shapes: images [B, 3, H, W], normalized, to a list of maps [B, C_i, H_i, W_i] with sides H / stride_i, rounded up:
    zeros on the right and at the bottom complete patches and maps. H and W are at least 32. In maps of fewer than
    `num_neighbors` patches, a patch has as many neighbors as there are patches.

    Raises:
        ValueError: images have the wrong rank or number of channels, or are too small.
    """

    num_layers, layer_of = EurNet.num_layers, EurNet.layer_of  # norms belong to the last layer

    def __init__(
        self,
        stages: Sequence[Stage],
        out_indices: Sequence[int] = (0, 1, 2, 3),
        context_sizes: Sequence[int] = CONTEXT_SIZES,
        drop_path: float = 0.0,
        windows: str = "tiled",
        window_length: int = WINDOW_LENGTH,
        init_std: float = 0.02,
    ):
        super().__init__()
        self.out_indices = tuple(out_indices)
        num_channels = stages[0].num_channels
        self.patch_embed = PatchEmbed(num_channels, (PATCH_SIZE, PATCH_SIZE))
        self.absolute_pos_embed = nn.Parameter(torch.empty(1, num_channels, POSITIONS, POSITIONS))
        rates = torch.linspace(0, drop_path, sum(stage.num_blocks for stage in stages), device="cpu").tolist()
        last = self.out_indices[-1]
        self.stages = nn.ModuleList()
        for i, stage in enumerate(stages[: last + 1]):
            nearest = None
            if stage.num_neighbors:
                nearest = WindowedNearestPatches(stage.num_channels, stage.num_neighbors, window_length, windows)
            own_rates, rates = rates[: stage.num_blocks], rates[stage.num_blocks :]
            num_out = stages[i + 1].num_channels if i < last else None
            self.stages.append(EurNetStage(stage, 2, nearest, context_sizes, own_rates, num_out, all_contexts=True))
        self.pyramid_channels = tuple(stages[i].num_channels for i in self.out_indices)
        self.pyramid_strides = tuple(PATCH_SIZE << i for i in self.out_indices)
        self.new_names = tuple(f"norm{i}." for i in self.out_indices)
        unused = [i for i in range(len(stages)) if i not in self.out_indices]
        self.classifier_names = (
            "norm.",
            "head.",
            *(f"stages.{i}." for i in range(last + 1, len(stages))),
            *((f"stages.{last}.downsample.",) if last + 1 < len(stages) else ()),
            *(f"norm{i}." for i in unused),
        )
        for i, channels in zip(self.out_indices, self.pyramid_channels, strict=True):
            self.add_module(f"norm{i}", nn.LayerNorm(channels))
        init_linear_layers(self, init_std)
        nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Images to patches with positions: [B, 3, H, W] -> [B, H/4, W/4, C]."""
        x = self.patch_embed(x)
        position = self.absolute_pos_embed
        if position.shape[2:] != x.shape[1:3]:
            position = F.interpolate(position, size=x.shape[1:3], mode="bicubic", align_corners=False)
        return x + position.movedim(1, -1)

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] to the levels, fine to coarse."""
        if x.dim() != 4 or x.shape[1] != 3 or min(x.shape[2:]) < MIN_SIZE:
            least = f"H x W = {MIN_SIZE} x {MIN_SIZE}"
            raise ValueError(f"the network takes RGB images [B, 3, H, W] of at least {least}, not {list(x.shape)}")
        x = self.embed(x)
        levels = []
        for i, stage in enumerate(self.stages):
            x = stage.pass_messages(x)
            if i in self.out_indices:
                levels.append(self.get_submodule(f"norm{i}")(x).movedim(-1, 1))  # [B, H, W, C] -> [B, C, H, W]
            x = stage.downsample(x)
        return levels

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.forward_pyramid(x)

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's: unchanged or, with `resize`, from a classifier's."""
        return convert(weights, self).weights if resize else dict(weights)

    def conversion_notes(self, weights: Mapping[str, torch.Tensor]) -> list[str]:
        """What `adapt_weights` with `resize` does with a file's entries, a line for each kind."""
        return convert(weights, self).notes


def eurnet_tiny(
    out_indices: Sequence[int] = (0, 1, 2, 3),
    drop_path: float = 0.0,
    windows: str = "tiled",
    window_length: int = WINDOW_LENGTH,
) -> EurNetPyramid:
    """The paper's EurNet-T; its drop path is 0.1 (1x) or 0.25 (3x) in detection, 0.3 in segmentation."""
    return EurNetPyramid(TINY, out_indices, CONTEXT_SIZES, drop_path, windows, window_length)


def eurnet_small(
    out_indices: Sequence[int] = (0, 1, 2, 3),
    drop_path: float = 0.0,
    windows: str = "tiled",
    window_length: int = WINDOW_LENGTH,
) -> EurNetPyramid:
    """The paper's EurNet-S; its drop path is 0.2 (1x) or 0.5 (3x) in detection, 0.3 in segmentation."""
    return EurNetPyramid(SMALL, out_indices, CONTEXT_SIZES, drop_path, windows, window_length)


def eurnet_base(
    out_indices: Sequence[int] = (0, 1, 2, 3),
    drop_path: float = 0.0,
    windows: str = "tiled",
    window_length: int = WINDOW_LENGTH,
) -> EurNetPyramid:
    """The paper's EurNet-B; its drop path is 0.3 (1x) or 0.5 (3x) in detection, 0.3 in segmentation."""
    return EurNetPyramid(BASE, out_indices, CONTEXT_SIZES, drop_path, windows, window_length)


eurnet_base_384 = eurnet_base  # it can also start from files trained on 384 x 384 images


def eurnet_debug(
    out_indices: Sequence[int] = (0, 1, 2, 3),
    drop_path: float = 0.0,
    windows: str = "tiled",
    window_length: int = WINDOW_LENGTH,
) -> EurNetPyramid:
    """A tiny network for tests and laptops, with small contexts."""
    return EurNetPyramid(DEBUG, out_indices, (3, 5, 7), drop_path, windows, window_length, init_std=0.2)
