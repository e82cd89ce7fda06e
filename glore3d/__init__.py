"""GloRe: the global reasoning unit, its networks for clips and images, and inflation of image weights for clips.

Paper: Chen et al., Graph-Based Global Reasoning Networks, CVPR 2019, https://arxiv.org/abs/1811.12814
"""

from glore3d.dual_path import DualPathBlock, DualPathStage, dpn98, dpn131, glore_dpn98, glore_dpn131
from glore3d.image_network import ImageNetwork
from glore3d.inflate import inflate_weights
from glore3d.preact_unit import PreActGloReUnit
from glore3d.resnet2d import (
    Bottleneck2d,
    ResNetStage,
    glore_resnet50,
    glore_resnet101,
    glore_resnet200,
    glore_resnext101_32x4d,
    glore_se_resnet50,
    preact_resnet50,
    preact_resnet101,
    preact_resnet200,
    preact_resnext101_32x4d,
    preact_se_resnet50,
)
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
    "Bottleneck2d",
    "DualPathBlock",
    "DualPathStage",
    "GloReUnit",
    "ImageNetwork",
    "PreActGloReUnit",
    "ResNet3d",
    "ResNetStage",
    "Stage",
    "dpn98",
    "dpn131",
    "glore_dpn98",
    "glore_dpn131",
    "glore_resnet50",
    "glore_resnet50_3d",
    "glore_resnet101",
    "glore_resnet101_3d",
    "glore_resnet200",
    "glore_resnet_debug_3d",
    "glore_resnext101_32x4d",
    "glore_se_resnet50",
    "inflate_weights",
    "preact_resnet50",
    "preact_resnet101",
    "preact_resnet200",
    "preact_resnext101_32x4d",
    "preact_se_resnet50",
    "resnet50_3d",
    "resnet101_3d",
    "resnet_debug_3d",
]
