"""EurNet: gated relational message passing (GRMP) on any graph and on grids, and the networks built from it.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941

The layer for any graph is `eurgraph.conv.GRMPConv`. It is not imported here, because PyTorch Geometric takes seconds to
import and the networks on grids do not need it.
"""

from eurgraph.eurnet import (
    EurNet,
    Stage,
    eurnet_base,
    eurnet_base_384,
    eurnet_base_video,
    eurnet_debug,
    eurnet_debug_video,
    eurnet_small,
    eurnet_small_video,
    eurnet_stages,
    eurnet_tiny,
    eurnet_tiny_video,
)
from eurgraph.grid import GridGraph, LongRange, MediumRange, NearestPatches, ShortRange
from eurgraph.grid_conv import GridGRMP
from eurgraph.positions import inflate_weights, resize_positions
from eurgraph.pyramid import EurNetPyramid
from eurgraph.windows import WindowedNearestPatches

__version__ = "0.1.0"

__all__ = [
    "EurNet",
    "EurNetPyramid",
    "GridGRMP",
    "GridGraph",
    "LongRange",
    "MediumRange",
    "NearestPatches",
    "ShortRange",
    "Stage",
    "WindowedNearestPatches",
    "eurnet_base",
    "eurnet_base_384",
    "eurnet_base_video",
    "eurnet_debug",
    "eurnet_debug_video",
    "eurnet_small",
    "eurnet_small_video",
    "eurnet_stages",
    "eurnet_tiny",
    "eurnet_tiny_video",
    "inflate_weights",
    "resize_positions",
]
