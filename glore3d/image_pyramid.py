"""GloRe's image networks as backbones: the map that each stage ends with, and no classifier.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814 (section 4.2)
Authors' code: not at hand, see glore3d/image_network.py

Ours: levels are the sums that blocks end with, raw, but the last stage's, which has the network's last norm and ReLU.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import nn

from glore3d import dual_path, resnet2d
from glore3d.image_network import STAGES, ImageNetwork, check_images
from glore3d.unit_positions import Units

Unit = Callable[[int, int], nn.Module]


class ImageNetworkPyramid(nn.Module):
    """The stages of an `ImageNetwork`; level i is the map of conv2, conv3, conv4 or, normalized by `tail`, conv5.

    Args:
        network: the classifier's network, whose parts it takes over.
        out_indices: the stages, from 0 for conv2, whose maps are the levels; increasing. Later stages are left out.

    Shapes: images [B, 3, H, W], normalized, to a list of maps [B, C_i, H / stride_i, W / stride_i], rounded up; H and W
    are any from 32 on.
    """

    def __init__(self, network: ImageNetwork, out_indices: Sequence[int] = (0, 1, 2, 3)):
        super().__init__()
        self.out_indices = tuple(out_indices)
        self.built = STAGES[: out_indices[-1] + 1]
        parts = ["conv1", *self.built, *(["tail"] if self.built == STAGES else [])]
        for name in parts:
            self.add_module(name, network.get_submodule(name))
        self.pyramid_channels = tuple(network.pyramid_channels[i] for i in out_indices)
        self.pyramid_strides = tuple(network.pyramid_strides[i] for i in out_indices)
        self.num_blocks = network.num_blocks
        self.unit_names = [name for name in network.unit_names if name.split(".")[0] in self.built]
        unused = [f"{name}." for name in (*STAGES, "tail") if name not in parts]
        self.classifier_names = ("classifier.", *unused)

    @property
    def num_layers(self) -> int:
        """Number of the last layer, the heads'; see `layer_of`."""
        return sum(self.num_blocks) + 1

    def layer_of(self, name: str) -> int:
        """The layer of a parameter, see `ImageNetwork.layer_of`."""
        return ImageNetwork.layer_of(self, name)

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] to the levels, fine to coarse."""
        check_images(x)
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
        """A file's state dict as this network's. No entry depends on the size of the images."""
        return dict(weights)


def image_pyramid(
    build: Callable[..., ImageNetwork],
    out_indices: Sequence[int] = (0, 1, 2, 3),
    units: Units | None = None,
    unit: Unit | None = None,
    normalize: bool = False,
    output_stride: int = 32,
) -> ImageNetworkPyramid:
    """The backbone in the network of a classifier's builder.

    Args:
        build: of glore3d/resnet2d.py or dual_path.py.
        out_indices: see `ImageNetworkPyramid`.
        units: where units are, see `ImageNetwork`. None: where the builder has them.
        unit, output_stride: see `ImageNetwork`.
        normalize: see `ImageNetwork`. Weights of a classifier are for units without; where training starts from none,
            units that normalize fit images of any size.
    """
    placed = {} if units is None else {"units": units}
    network = build(num_classes=0, unit=unit, normalize=normalize, output_stride=output_stride, **placed)
    return ImageNetworkPyramid(network, out_indices)


# Builders: they take what `image_pyramid` takes from out_indices on.
glore_resnet50 = partial(image_pyramid, resnet2d.glore_resnet50)
glore_resnet101 = partial(image_pyramid, resnet2d.glore_resnet101)
glore_resnet200 = partial(image_pyramid, resnet2d.glore_resnet200)
glore_se_resnet50 = partial(image_pyramid, resnet2d.glore_se_resnet50)
glore_resnext101_32x4d = partial(image_pyramid, resnet2d.glore_resnext101_32x4d)
preact_resnet50 = partial(image_pyramid, resnet2d.preact_resnet50)
preact_resnet101 = partial(image_pyramid, resnet2d.preact_resnet101)
preact_resnet200 = partial(image_pyramid, resnet2d.preact_resnet200)
preact_se_resnet50 = partial(image_pyramid, resnet2d.preact_se_resnet50)
preact_resnext101_32x4d = partial(image_pyramid, resnet2d.preact_resnext101_32x4d)
glore_dpn98 = partial(image_pyramid, dual_path.glore_dpn98)
glore_dpn131 = partial(image_pyramid, dual_path.glore_dpn131)
dpn98 = partial(image_pyramid, dual_path.dpn98)
dpn131 = partial(image_pyramid, dual_path.dpn131)
glore_resnet_debug = partial(image_pyramid, resnet2d.glore_resnet_debug)
preact_resnet_debug = partial(image_pyramid, resnet2d.preact_resnet_debug)
glore_dpn_debug = partial(image_pyramid, dual_path.glore_dpn_debug)
