"""GLNet as the backbone of detectors and segmentors: the raw last map of each stage, and no classifier.

Paper: Zhu et al., Revisiting the Integration of Convolution and Attention for Vision Backbone, NeurIPS 2024,
https://arxiv.org/abs/2411.14429 (section 4.3)
Authors' code: https://github.com/rayleizhu/GLMix (classification only)

The authors have not released their dense networks. It is our assumption that levels have no norm: those of an earlier
network of the same author, BiFormer, have none (https://github.com/rayleizhu/BiFormer).
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn

from backbones.glnet import GLNet, Stage, glnet_stages, swin_like_stages
from backbones.hornet import check_images
from backbones.hornet_pyramid import unused_names


class GLNetPyramid(nn.Module):
    """The stages of `GLNet`; level i is the map of stage i.

    >>> model = GLNetPyramid(glnet_stages(32, (1, 1, 1, 1)), out_indices=(1, 3)).eval()
    >>> [list(level.shape) for level in model(torch.randn(2, 3, 64, 100))]
    [[2, 64, 8, 13], [2, 256, 2, 4]]

    Args:
        stages, overlapping, drop_path: as for `GLNet`.
        out_indices: the stages, from 0, whose maps are the levels; increasing. Later stages are not built.

    Shapes: images [B, 3, H, W], normalized, to a list of maps [B, C_i, H_i, W_i] with sides H / stride_i, rounded up
    (down if `overlapping` is off); H and W are at least 32.

    Raises:
        ValueError: images have the wrong rank or number of channels, or are too small.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        overlapping: bool = True,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path: float = 0.0,
    ):
        super().__init__()
        classifier = GLNet(stages[: out_indices[-1] + 1], overlapping, 0, drop_path)
        self.downsample_layers, self.stages = classifier.downsample_layers, classifier.stages
        self.out_indices = tuple(out_indices)
        self.classifier_names = ("norm.", "head.", "tklb_aux_head.", *unused_names(out_indices))
        self.pyramid_channels = tuple(classifier.pyramid_channels[i] for i in out_indices)
        self.pyramid_strides = tuple(4 << i for i in out_indices)

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] to the levels, fine to coarse."""
        check_images(x)
        x = x.contiguous(memory_format=torch.channels_last)
        levels = []
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = stage(downsample(x))
            if i in self.out_indices:
                levels.append(x)
        return levels

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.forward_pyramid(x)

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's; no entry depends on the size of the images."""
        return dict(weights)


# Builders: they take the arguments of GLNetPyramid from out_indices on.
glnet_4g = partial(GLNetPyramid, glnet_stages(64), True)
glnet_9g = partial(GLNetPyramid, glnet_stages(96), True)
glnet_16g = partial(GLNetPyramid, glnet_stages(128, layer_scale=1e-4), True)
glnet_stl = partial(GLNetPyramid, swin_like_stages(), False)
glnet_stl_paramslot = partial(GLNetPyramid, swin_like_stages(learned_slots=True), False)
glnet_debug = partial(GLNetPyramid, glnet_stages(32, (1, 1, 2, 1)), True)
# Trained with token labels: the same networks with other weights.
glnet_4g_tklb, glnet_9g_tklb, glnet_debug_tklb = glnet_4g, glnet_9g, glnet_debug
