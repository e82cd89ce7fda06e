"""GloRe's 3-D ResNets as backbones: the map that each stage ends with, and no classifier.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814 (section 4.3)
Authors' code: https://github.com/facebookresearch/GloRe (classification of clips only)

Ours: levels are the sums that blocks end with, raw, but the last stage's, which has the network's last norm and ReLU.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch
from torch import nn

from glore3d.resnet3d import DEBUG, DEBUG_UNITS, R50, R50_UNITS, R101, R101_UNITS, ResNet3d, Stage, Units
from glore3d.unit import GloReUnit

STAGES = ("conv2", "conv3", "conv4", "conv5")


class ResNet3dPyramid(ResNet3d):
    """The stages of `ResNet3d`; level i is the map of conv2, conv3, conv4 or, normalized by `tail`, conv5.

    >>> model = ResNet3dPyramid(DEBUG, DEBUG_UNITS, stem_width=16, out_indices=(1, 3))
    >>> [list(level.shape) for level in model(torch.randn(2, 3, 4, 64, 100))]
    [[2, 64, 4, 8, 13], [2, 256, 2, 2, 4]]

    Args:
        stages, units, unit, stem_width: as for `ResNet3d`.
        out_indices: the stages, from 0 for conv2, whose maps are the levels; increasing. Later stages are not built.

    Shapes: clips [B, 3, T, H, W], normalized, to a list of maps [B, C_i, T_i, H_i, W_i] whose sides are those of the
    clip divided by the stride, rounded up.

    Raises:
        ValueError: units placed after blocks that do not exist, or clips of another rank, or smaller than the stride.
    """

    def __init__(
        self,
        stages: Collection[Stage],
        units: Units | None = None,
        unit: Callable[[int, int], nn.Module] = GloReUnit,
        stem_width: int = 32,
        out_indices: Sequence[int] = (0, 1, 2, 3),
    ):
        super().__init__(stages, 0, units, unit, stem_width)
        self.out_indices = tuple(out_indices)
        self.built = STAGES[: out_indices[-1] + 1]
        later = STAGES[len(self.built) :]
        for name in later:
            delattr(self, name)
        if later:
            del self.tail
        self.min_size = self.pyramid_strides[out_indices[-1]]
        self.pyramid_channels = tuple(self.pyramid_channels[i] for i in out_indices)
        self.pyramid_strides = tuple(self.pyramid_strides[i] for i in out_indices)
        unused = (*later, "tail") if later else ()
        self.classifier_names = ("classifier.", *(f"{name}." for name in unused))
        self.unit_names = [name for name in self.unit_names if name.split(".")[0] in self.built]

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Clips [B, 3, T, H, W] to the levels, fine to coarse."""
        self._check_clips(x)
        x = self.conv1(x)
        levels = []
        for i, name in enumerate(self.built):
            x = self.get_submodule(name)(x)
            if i in self.out_indices:
                levels.append(self.tail(x) if name == STAGES[-1] else x)
        return levels

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.forward_pyramid(x)


# Builders: they take what ResNet3dPyramid takes from `units` on, but plain networks have none.
glore_resnet50_3d = partial(ResNet3dPyramid, R50, units=R50_UNITS)
glore_resnet101_3d = partial(ResNet3dPyramid, R101, units=R101_UNITS)
resnet50_3d = partial(ResNet3dPyramid, R50)
resnet101_3d = partial(ResNet3dPyramid, R101)
glore_resnet_debug_3d = partial(ResNet3dPyramid, DEBUG, units=DEBUG_UNITS, stem_width=16)
resnet_debug_3d = partial(ResNet3dPyramid, DEBUG, stem_width=16)
