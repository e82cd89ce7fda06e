"""The whole network on lists of edges is the network on grids."""

import copy

import pytest
import torch

from eurgraph import eurnet_debug, eurnet_debug_video
from eurgraph.edge_list import on_edge_lists


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize(("build", "shape"), [(eurnet_debug, (3, 64, 64)), (eurnet_debug_video, (3, 8, 64, 64))])
def test_equals_the_network_on_grids(build, shape, fuse):
    torch.manual_seed(0)
    grid = build(num_classes=5).double()
    edges = on_edge_lists(copy.deepcopy(grid), fuse)
    x = torch.randn(2, *shape, dtype=torch.float64)
    logits = grid(x), edges(x)
    torch.testing.assert_close(*logits, rtol=1e-8, atol=1e-8)
    gradients = [
        torch.autograd.grad(output.square().sum(), [model.patch_embed.proj.weight, model.head.weight])
        for model, output in zip((grid, edges), logits, strict=True)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
