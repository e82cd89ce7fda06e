"""Post-activation ResNets with dilated last stages: the backbone of GloRe's segmentation network.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814 (section 4.4)
Authors' code: facebookresearch/GloRe keeps the segmentation code inside its weight archives, which were not at
hand. Copies of the authors' development code point to the ResNet of PyTorch-Encoding
(https://github.com/zhanghang1989/PyTorch-Encoding), whose layers are called conv1, bn1 and layer1 to layer4.

Assumed, because no public source says it: the output stride is 8, the stem is one 7 x 7 convolution (not three of
3 x 3), the stride is on the 3 x 3 convolution, and the last stage has one dilation throughout (no multi-grid). That is
torchvision's network with `replace_stride_with_dilation`, whose layers have the same names and whose ImageNet weights
load.

Done differently here: stages after the last requested level are not built.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn

MIN_SIZE = 32
DILATED_STAGES = {32: (False, False, False), 16: (False, False, True), 8: (False, True, True)}


class DilatedResNet(nn.Module):
    """The stages of torchvision's ResNet; level i is the map of stage i.

    >>> model = DilatedResNet("resnet50", out_indices=(0, 3))
    >>> [list(level.shape) for level in model(torch.randn(1, 3, 64, 70))]
    [[1, 256, 16, 18], [1, 2048, 8, 9]]

    Args:
        name: torchvision's name of a ResNet with bottlenecks.
        out_indices: the stages, from 0, whose maps are the levels; increasing.
        output_stride: pixels between neighbors of the last map: 32, or 16 or 8, with the last stage or two dilated.

    Shapes: images [B, 3, H, W], normalized, to a list of maps [B, C_i, H / stride_i, W / stride_i], rounded up; H and W
    are at least 32.

    Raises:
        ValueError: a level does not exist, the output stride is not supported, or images have the wrong rank or are
            too small.
    """

    def __init__(self, name: str, out_indices: Sequence[int] = (0, 1, 2, 3), output_stride: int = 8):
        super().__init__()
        from torchvision.models import resnet  # takes a second to import

        if output_stride not in DILATED_STAGES:
            raise ValueError(f"output_stride must be 32, 16 or 8, not {output_stride}")
        levels = list(out_indices)
        if not levels or levels != sorted(set(levels) & {0, 1, 2, 3}):
            raise ValueError(f"out_indices must be increasing numbers from 0 to 3, not {tuple(out_indices)}")
        network = getattr(resnet, name)(weights=None, replace_stride_with_dilation=DILATED_STAGES[output_stride])
        self.out_indices = tuple(out_indices)
        self.pyramid_channels = tuple(256 << i for i in out_indices)
        self.pyramid_strides = tuple(min(4 << i, output_stride) for i in out_indices)
        self.num_features = self.pyramid_channels[-1]
        self.stage_names = [f"layer{i + 1}" for i in range(out_indices[-1] + 1)]
        self.classifier_names = ("fc.", *(f"layer{i}." for i in range(out_indices[-1] + 2, 5)))
        for part in ("conv1", "bn1", "relu", "maxpool", *self.stage_names):
            self.add_module(part, network.get_submodule(part))

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] to the levels, fine to coarse."""
        if x.dim() != 4 or x.shape[1] != 3 or min(x.shape[2:]) < MIN_SIZE:
            least = f"{MIN_SIZE} x {MIN_SIZE}"
            raise ValueError(
                f"the network takes RGB images [B, 3, H, W] of at least H x W = {least}, not {list(x.shape)}"
            )
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # [B, 3, H, W] -> [B, 64, H/4, W/4]
        levels = []
        for i, name in enumerate(self.stage_names):
            x = self.get_submodule(name)(x)
            if i in self.out_indices:
                levels.append(x)
        return levels

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.forward_pyramid(x)

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's. No entry depends on the size of the images."""
        return dict(weights)


# Builders: they take the arguments of DilatedResNet from out_indices on.
dilated_resnet50 = partial(DilatedResNet, "resnet50")
dilated_resnet101 = partial(DilatedResNet, "resnet101")
