"""EurNet for clips as a backbone: the raw last map of each stage, and no classifier.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (section 4.1)

Ours: the authors have no networks for clips. The graph is that of the classifier, without windows, so the cost of a
stage grows with the square of its number of patches.
"""

from collections.abc import Sequence

import torch

from eurgraph.eurnet import BASE, DEBUG, SMALL, TINY, EurNet, Stage

NUM_STAGES = 4


class EurNetVideoPyramid(EurNet):
    """The stages of `EurNet` for clips; level i is the map of stage i.

    >>> model = EurNetVideoPyramid(DEBUG, (1, 3), num_frames=4, image_size=64, context_sizes=(3,))
    >>> [list(level.shape) for level in model(torch.randn(2, 3, 4, 64, 100))]
    [[2, 32, 2, 8, 13], [2, 128, 2, 2, 4]]

    Args:
        stages, num_frames, image_size, context_sizes, drop_path, init_std: as for `EurNet`. `num_frames` and
            `image_size` only determine how many positions are learned.
        out_indices: the stages, from 0, whose maps are the levels; increasing. Later stages are not built.

    Shapes: clips [B, 3, T, H, W], normalized, of an even number of frames to a list of maps [B, C_i, T / 2, H_i, W_i]
    with sides H / stride, rounded up.

    Raises:
        ValueError: inputs have the wrong rank, or are so small that a stage has fewer patches than neighbors to find.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        out_indices: Sequence[int] = (0, 1, 2, 3),
        num_frames: int = 8,
        image_size: int | Sequence[int] = 224,
        context_sizes: Sequence[int | Sequence[int]] = (7,),
        drop_path: float = 0.0,
        init_std: float = 0.02,
    ):
        last = out_indices[-1]
        super().__init__(
            stages[: last + 1], 0, image_size, 4, context_sizes, drop_path, num_frames=num_frames, init_std=init_std
        )
        del self.norm
        self.out_indices = tuple(out_indices)
        self.pyramid_channels = tuple(self.pyramid_channels[i] for i in out_indices)
        self.pyramid_strides = tuple(self.pyramid_strides[i] for i in out_indices)
        merging = (f"stages.{last}.downsample.",) if last + 1 < NUM_STAGES else ()
        later = [f"stages.{i}." for i in range(last + 1, NUM_STAGES)]
        self.classifier_names = ("norm.", "head.", *merging, *later)

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Clips [B, 3, T, H, W] to the levels, fine to coarse."""
        maps = super().forward_pyramid(x)
        return [maps[i] for i in self.out_indices]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.forward_pyramid(x)


def eurnet_tiny_video(
    out_indices: Sequence[int] = (0, 1, 2, 3),
    num_frames: int = 8,
    image_size: int | Sequence[int] = 224,
    drop_path: float = 0.0,
) -> EurNetVideoPyramid:
    """EurNet-T for clips."""
    return EurNetVideoPyramid(TINY, out_indices, num_frames, image_size, ((3, 7, 7),), drop_path)


def eurnet_small_video(
    out_indices: Sequence[int] = (0, 1, 2, 3),
    num_frames: int = 8,
    image_size: int | Sequence[int] = 224,
    drop_path: float = 0.0,
) -> EurNetVideoPyramid:
    """EurNet-S for clips."""
    return EurNetVideoPyramid(SMALL, out_indices, num_frames, image_size, (3, 3, 3), drop_path)


def eurnet_base_video(
    out_indices: Sequence[int] = (0, 1, 2, 3),
    num_frames: int = 8,
    image_size: int | Sequence[int] = 224,
    drop_path: float = 0.0,
) -> EurNetVideoPyramid:
    """EurNet-B for clips."""
    return EurNetVideoPyramid(BASE, out_indices, num_frames, image_size, (3, (3, 5, 5)), drop_path)


def eurnet_debug_video(
    out_indices: Sequence[int] = (0, 1, 2, 3),
    num_frames: int = 8,
    image_size: int | Sequence[int] = 64,
    drop_path: float = 0.0,
) -> EurNetVideoPyramid:
    """A tiny network for tests and laptops."""
    return EurNetVideoPyramid(DEBUG, out_indices, num_frames, image_size, (3,), drop_path, init_std=0.1)
