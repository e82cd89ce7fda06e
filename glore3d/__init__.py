"""GloRe: the global reasoning unit, the 3-D ResNets that carry it, and their start from 2-D ImageNet weights.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814
"""

from glore3d.inflate import inflate_weights
from glore3d.resnet3d import (
    ResNet3d,
    Stage,
    glore_resnet50_3d,
    glore_resnet101_3d,
    glore_resnet_debug_3d,
    resnet50_3d,
    resnet101_3d,
    resnet_debug_3d,
)
from glore3d.unit import GloReUnit

__version__ = "0.1.0"

__all__ = [
    "GloReUnit",
    "ResNet3d",
    "Stage",
    "glore_resnet50_3d",
    "glore_resnet101_3d",
    "glore_resnet_debug_3d",
    "inflate_weights",
    "resnet50_3d",
    "resnet101_3d",
    "resnet_debug_3d",
]
