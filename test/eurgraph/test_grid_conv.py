"""The layer on grids is the layer on graphs: equal outputs and gradients on the same edges."""

import math

import pytest
import torch
from torch import nn

from eurgraph import GridGraph, GridGRMP, LongRange, MediumRange, NearestPatches, ShortRange, grid_conv
from eurgraph.block import Block
from eurgraph.edge_list import EdgeListGRMP


def make_graph(shape, ranges, x):
    medium = [NearestPatches(shape, x.shape[-1], num_neighbors=3)(x)] if "medium" in ranges else []
    short = [ShortRange(len(shape))] if "short" in ranges else []
    return GridGraph(shape, (*short, *medium, *([LongRange()] if "long" in ranges else [])))


@pytest.mark.parametrize("ranges", [("short", "medium", "long"), ("short",), ("medium",), ("long",)])
@pytest.mark.parametrize(("shape", "context_sizes"), [((5, 6), (3, 5)), ((5, 6), ()), ((3, 4, 5), ((1, 3, 5), 3))])
def test_equals_the_layer_on_the_same_edges(shape, context_sizes, ranges):
    torch.manual_seed(0)
    x = torch.randn(2, *shape, 12, dtype=torch.float64, requires_grad=True)
    graph = make_graph(shape, ranges, x)
    layer = GridGRMP(12, graph.num_relations, len(shape), context_sizes).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    data = graph.to_edge_index(x.detach())

    grid = layer(x, graph)
    edges = EdgeListGRMP(layer)(x, (graph, data.edge_index, data.edge_type))
    torch.testing.assert_close(grid, edges, rtol=1e-9, atol=1e-9)

    weight = torch.randn_like(grid)
    wanted = [x, *layer.parameters()]
    ours, theirs = (torch.autograd.grad((output * weight).sum(), wanted) for output in (grid, edges))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    x = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    graph = make_graph((4, 4), ("short", "medium", "long"), x)
    layer = GridGRMP(4, 6, context_sizes=(3,)).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    assert torch.autograd.gradcheck(lambda x: layer(x, graph), x)


def test_second_derivatives_are_those_of_finite_differences():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    graph = make_graph((3, 4), ("short", "long"), x)
    layer = GridGRMP(4, 5, context_sizes=(3,)).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    assert torch.autograd.gradgradcheck(lambda x, _: layer(x, graph), (x, layer.linear.weight))
    nearest = GridGRMP(4, 1).double()
    (gradient,) = torch.autograd.grad(nearest(x, make_graph((3, 4), ("medium",), x)).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="embedding_bag"):  # an error, not numbers without its part
        torch.autograd.grad(gradient.sum(), x)


@pytest.mark.parametrize("with_gradient", [False, True])
def test_what_export_captures_computes_the_same(with_gradient):
    torch.manual_seed(0)
    x = torch.randn(2, 6, 6, 8)
    graph, layer = make_graph((6, 6), ("short", "medium", "long"), x), GridGRMP(8, 6, context_sizes=(3,))
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)

    class OnGraph(nn.Module):
        def forward(self, x):
            return layer(x, graph)

    with torch.set_grad_enabled(with_gradient):
        exported = torch.export.export(OnGraph(), (x,)).module()
        torch.testing.assert_close(exported(x), layer(x, graph))


def test_a_patch_gets_messages_from_its_neighbors_only():
    layer = GridGRMP(4, 4).double()
    x = torch.randn(1, 5, 6, 4, dtype=torch.float64)
    graph = make_graph((5, 6), ("short",), x)
    changed = x.clone()
    changed[0, 2, 3] += 1
    heard = (layer(changed, graph) - layer(x, graph)).abs().sum(-1)[0] > 0
    assert heard.nonzero().tolist() == [[1, 3], [2, 2], [2, 3], [2, 4], [3, 3]]


@pytest.mark.parametrize("context_sizes", [(), (3,)])
def test_half_precision_keeps_close(context_sizes):
    torch.manual_seed(0)
    x = torch.randn(2, 6, 6, 16)
    graph = make_graph((6, 6), ("short", "medium", "long"), x)
    layer = GridGRMP(16, 6, context_sizes=context_sizes)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    expected = layer(x, graph)
    with torch.autocast("cpu", torch.bfloat16):
        actual = layer(x, graph)
    assert (actual - expected).abs().max() < 0.05 * expected.abs().max()
    actual.float().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_wrong_sizes_are_named():
    x = torch.randn(1, 4, 6, 8)
    graph = make_graph((4, 6), ("short", "long"), x)
    with pytest.raises(ValueError, match="the graph has 5 relations, this layer 6"):
        GridGRMP(8, 6)(x, graph)
    with pytest.raises(ValueError, match=r"the graph is one of 4 x 6 patches, \[B, \*shape, C\], not \[1, 6, 4, 8\]"):
        GridGRMP(8, 5)(x.transpose(1, 2), graph)
    for wrong in (4, (3, 3, 3)):
        with pytest.raises(ValueError, match="an odd number, or one for each of 2 axes, not"):
            GridGRMP(8, 5, context_sizes=(wrong,))
    with pytest.raises(ValueError, match="grids of 2 or 3 axes, not num_axes=4"):
        GridGRMP(8, 5, num_axes=4)


@pytest.mark.parametrize(("shape", "context_sizes"), [((5, 7), (3,)), ((7, 1), ()), ((3, 4, 5), (3, (1, 3, 3)))])
def test_a_block_in_parts_is_the_whole_block(shape, context_sizes, monkeypatch):
    """Inference takes rows of the grid and patches in parts, training does not."""
    torch.manual_seed(0)
    index = torch.randint(math.prod(shape), (2, math.prod(shape), 3))
    graph = GridGraph(shape, (ShortRange(len(shape)), MediumRange(index), LongRange()))
    block = Block(12, graph.num_relations, len(shape), context_sizes, drop_path=0.0).double().eval()
    x = torch.randn(2, *shape, 12, dtype=torch.float64)
    expected = block(x, graph).detach()
    monkeypatch.setattr(grid_conv, "MIN_PART", 3)
    for limit in (1, 300, 2**18):
        monkeypatch.setattr(grid_conv, "CACHED_VALUES", limit)
        before = x.clone()
        with torch.inference_mode():
            torch.testing.assert_close(block(x, graph), expected)
        assert torch.equal(x, before)
