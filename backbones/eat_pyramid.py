"""EAT as the backbone of detectors and segmentors: its one map, enlarged and shrunk to four levels.

Paper: Zhang et al., Analogous to Evolutionary Algorithm: Designing a Unified Sequence Model, NeurIPS 2021,
https://arxiv.org/abs/2105.15089
Authors' code: https://github.com/TencentYoutuResearch/BaseArchitecture-EAT (classification only)

The four levels are those of plain vision transformers in dense prediction (Li et al., Exploring Plain Vision
Transformer Backbones for Object Detection, ECCV 2022, https://arxiv.org/abs/2203.16527): the last map by transposed
convolutions, as it is, and pooled.

Done differently here: levels keep the network's width, because necks and heads have their own 1 x 1 convolutions;
positions and curve fit images of any size.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from backbones.eat import EAT
from backbones.hornet import check_images
from backbones.layer_norm import LayerNorm2d


class EATPyramid(EAT):
    """The tokens of `EAT` on their grid, with P x P pixels for each, at strides P / 4, P / 2, P and 2 P.

    >>> model = EATPyramid(image_size=64, patch_size=8, dim=64, num_heads=4, depth=2, out_indices=(0, 3))
    >>> [list(level.shape) for level in model(torch.randn(2, 3, 64, 100))]
    [[2, 64, 32, 50], [2, 64, 4, 7]]

    Args:
        image_size, patch_size, dim, num_heads, depth: as for `EAT`; `image_size` only determines how many positions are
            learned.
        out_indices: which of the four levels, from 0; increasing.
        curve, curve_level, local, local_ratio, kernel_size, drop_path: as for `EAT`.
        class_token: a class token goes through the blocks with the others, as in networks with that `readout`. Other
            readouts do not affect the maps.

    Shapes: images [B, 3, H, W], normalized, to a list of maps [B, C, H_i, W_i] with sides H / stride_i, rounded up; H
    and W are at least 32.

    Raises:
        ValueError: a choice does not exist or choices cannot be combined; the tokens are pieces of pixel rows, which do
            not form a grid; images have the wrong rank or number of channels, or are too small.
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        dim: int = 192,
        num_heads: int = 4,
        depth: int = 12,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        curve: str = "sis",
        curve_level: str = "pixel",
        local: str = "conv",
        local_ratio: float = 0.5,
        kernel_size: int = 3,
        class_token: bool = False,
        drop_path: float = 0.0,
    ):
        if patch_size % 4:
            raise ValueError(f"patch_size must be a multiple of 4, for a finest level of a quarter, not {patch_size}")
        super().__init__(
            image_size,
            patch_size,
            dim,
            num_heads,
            depth,
            0,
            curve,
            curve_level,
            local,
            local_ratio,
            kernel_size,
            "class_token" if class_token else "mean",
            drop_path=drop_path,
        )
        self._check_pieces()
        self.out_indices = tuple(out_indices)
        self.pyramid_channels = (dim,) * len(self.out_indices)
        self.pyramid_strides = tuple(patch_size << i >> 2 for i in self.out_indices)
        self.levels = nn.ModuleDict({str(i): _level(i, dim) for i in self.out_indices})
        self.new_names = ("levels.",)
        tokens = ("dist_token",) if class_token else ("cls_token", "dist_token")
        unused = [f"levels.{i}." for i in range(4) if i not in self.out_indices]
        self.classifier_names = ("head.", "head_dist.", "blocks_cls.", *tokens, *unused)

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] to the levels, fine to coarse."""
        check_images(x)
        height, width = x.shape[2:]
        (tokens,) = super().forward_pyramid(x)
        maps = [level(tokens) for level in self.levels.values()]
        # Tokens extend beyond the image, as far as the last patches.
        sizes = [(-(-height // stride), -(-width // stride)) for stride in self.pyramid_strides]
        return [x[:, :, :rows, :columns] for x, (rows, columns) in zip(maps, sizes, strict=True)]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.forward_pyramid(x)


def _level(number: int, dim: int) -> nn.Module:
    """Makes level `number` of the tokens' map [B, C, h, w]: [B, C, 4 h, 4 w], 2 h, h or h / 2, rounded up."""
    if number == 0:
        return nn.Sequential(_doubled(dim), LayerNorm2d(dim), nn.GELU(), _doubled(dim))
    if number == 1:
        return _doubled(dim)
    return nn.Identity() if number == 2 else nn.MaxPool2d(kernel_size=2, ceil_mode=True)


def _doubled(dim: int) -> nn.Module:
    return nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2)


# The paper's networks; every option of EATPyramid can be changed.
eat_tiny = partial(EATPyramid, dim=192, num_heads=4)
eat_small = partial(EATPyramid, dim=384, num_heads=6)
eat_medium = partial(EATPyramid, dim=576, num_heads=8)
eat_base = partial(EATPyramid, dim=768, num_heads=12)
eat_tiny_384 = partial(eat_tiny, image_size=384)
eat_small_384 = partial(eat_small, image_size=384)
eat_base_384 = partial(eat_base, image_size=384)
# Without their heads, distilled networks are the same networks with other weights.
eat_tiny_dist, eat_small_dist = eat_tiny, eat_small
# For tests and laptops.
eat_debug = partial(EATPyramid, image_size=64, patch_size=8, dim=64, num_heads=4, depth=4)
