"""GloRe's image networks as backbones: the map that each stage ends with, and no classifier.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814 (section 4.2)
Authors' code: none is known; their segmentation network has a different backbone (`dilated_resnet.py`).

Ours: levels are the raw sums that stages end with, except the last stage's, which has the network's last norm and ReLU.
Heads that expect maps of one scale should normalize them.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from glore3d.image_network import STAGES, BlockLayers, ImageNetwork, check_images


class ImagePyramid(BlockLayers, nn.Module):
    """The stages of an image network; level i is the map of conv2, conv3, conv4 or, normalized by `tail`, conv5.

    Args:
        network: the network, whose stem and stages become those of the backbone.
        out_indices: the stages, from 0 for conv2, whose maps are the levels; increasing. Later stages are left out.

    Shapes: images [B, 3, H, W], normalized, to a list of maps [B, C_i, H_i, W_i], with the sides of the image divided
    by the stride, rounded up; H and W are at least the network's minimum, 32 with its own stem.

    Raises:
        ValueError: images have the wrong rank or are too small.
    """

    def __init__(self, network: ImageNetwork, out_indices: Sequence[int] = (0, 1, 2, 3)):
        super().__init__()
        self.out_indices = tuple(out_indices)
        self.built = STAGES[: out_indices[-1] + 1]
        unused = [*STAGES[len(self.built) :], "tail"] if len(self.built) < len(STAGES) else []
        for name in ("conv1", *STAGES, "tail"):
            if name not in unused:
                self.add_module(name, network.get_submodule(name))
        self.min_size = network.min_size
        self.num_blocks = network.num_blocks[: len(self.built)]
        self.num_features = network.pyramid_channels[out_indices[-1]]
        self.pyramid_channels = tuple(network.pyramid_channels[i] for i in out_indices)
        self.pyramid_strides = tuple(network.pyramid_strides[i] for i in out_indices)
        self.classifier_names = ("classifier.", *(f"{name}." for name in unused))
        self.unit_names = [name for name in network.unit_names if name.split(".")[0] in self.built]

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] to the levels, fine to coarse."""
        check_images(x, self.min_size)
        x = self.conv1(x)
        levels = []
        for i, name in enumerate(self.built):
            x = self.get_submodule(name)(x)
            if i in self.out_indices:
                levels.append(self.tail(x) if name == STAGES[-1] else x)
        return levels

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.forward_pyramid(x)

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's. No entry depends on the size of the images."""
        return dict(weights)
