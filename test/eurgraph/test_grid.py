"""Relations on grids: exact lists of edges, the nearest patches by brute force, and the means against the edges."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from eurgraph import GridGraph, LongRange, MediumRange, NearestPatches, ShortRange, eurnet_debug, grid, resize_positions
from eurgraph import nearest as nearest_patches
from eurgraph.nearest import highest, relative_position


def edges(graph, x):
    data = graph.to_edge_index(x)
    return [(*pair, kind) for pair, kind in zip(data.edge_index.T.tolist(), data.edge_type.tolist(), strict=True)]


def test_edges_of_a_small_image():
    graph = GridGraph((2, 3), (ShortRange(2), LongRange()))
    # nodes: 0 is virtual; patches are 1 2 3 above 4 5 6
    above = [(1, 4, 0), (2, 5, 0), (3, 6, 0)]
    left = [(1, 2, 2), (2, 3, 2), (4, 5, 2), (5, 6, 2)]
    below, right = ([(target, source, kind + 1) for source, target, kind in side] for side in (above, left))
    virtual = [(0, patch, 4) for patch in range(1, 7)]
    assert edges(graph, torch.zeros(1, 2, 3, 8)) == above + below + left + right + virtual
    assert (graph.num_relations, graph.num_virtual_nodes, graph.num_patches) == (5, 1, 6)


def test_edges_of_a_small_clip():
    graph = GridGraph((2, 1, 2), (ShortRange(3),))
    before = [(0, 2, 0), (1, 3, 0)]
    left = [(0, 1, 4), (2, 3, 4)]
    after, right = ([(target, source, kind + 1) for source, target, kind in side] for side in (before, left))
    assert edges(graph, torch.zeros(1, 2, 1, 2, 8)) == before + after + left + right
    assert graph.num_relations == 6


def test_batched_grids_follow_each_other():
    index = torch.tensor([[[2], [2], [0]], [[1], [0], [0]]])
    graph = GridGraph((3, 1), (MediumRange(index), LongRange()))
    x = torch.randn(2, 3, 1, 8)
    data = graph.to_edge_index(x)
    assert data.batch.tolist() == [0] * 4 + [1] * 4
    medium = [(3, 1, 0), (3, 2, 0), (1, 3, 0), (6, 5, 0), (5, 6, 0), (5, 7, 0)]
    assert edges(graph, x) == medium + [(0, i, 1) for i in (1, 2, 3)] + [(4, i, 1) for i in (5, 6, 7)]
    assert torch.equal(graph.to_grid(data.x), x)
    torch.testing.assert_close(data.x[[0, 4]], x.mean((1, 2)))


def test_grid_without_relations_has_no_edges():
    graph = GridGraph((2, 2), ())
    data = graph.to_edge_index(torch.randn(3, 2, 2, 4))
    assert data.num_nodes == 12 and data.num_edges == 0 and graph.num_relations == 0


@pytest.mark.parametrize("shape", [(4, 6), (1, 5), (1, 1), (3, 2, 4)])
def test_means_on_the_grid_are_those_over_the_edges(shape):
    torch.manual_seed(0)
    index = torch.randint(math.prod(shape), (2, math.prod(shape), 3))
    graph = GridGraph(shape, (ShortRange(len(shape)), MediumRange(index), LongRange()))
    x = torch.randn(2, *shape, 5, dtype=torch.float64)
    data = graph.to_edge_index(x)
    values, places = graph.gather(x)
    assert len(places) == graph.num_relations
    for r, (i, source, target) in enumerate(places):
        on_grid = torch.zeros_like(x)
        on_grid[target] = values[i][source]
        source, target = data.edge_index[:, data.edge_type == r]
        total = torch.zeros_like(data.x).index_add(0, target, data.x[source])
        count = torch.zeros(len(data.x)).index_add(0, target, torch.ones(len(target))).clamp(min=1)
        torch.testing.assert_close(on_grid, graph.to_grid(total / count[:, None]))


def sinusoids(shape, num_channels):
    """Position embeddings as they are usually written: sines and cosines for each axis, side by side."""
    half = num_channels // len(shape) // 2
    frequency = 1 / 10000 ** (np.arange(half) / half)
    angles = [np.outer(position.ravel(), frequency) for position in np.indices(shape)]
    return np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)


@pytest.mark.parametrize(("shape", "num_channels"), [((7, 7), 96), ((4, 9), 16), ((2, 3, 5), 24)])
def test_relative_positions_are_products_of_sinusoids(shape, num_channels):
    embedding = sinusoids(shape, num_channels)
    expected = -2 * embedding @ embedding.T / num_channels
    actual = relative_position(shape, num_channels)
    assert actual.dtype == torch.float32
    np.testing.assert_allclose(actual, expected, atol=1e-7)
    assert torch.equal(actual.diagonal(), -torch.ones(math.prod(shape)))


@pytest.mark.parametrize("shape", [(5, 7), (2, 4, 5)])
def test_nearest_patches_by_brute_force(shape):
    torch.manual_seed(0)
    nearest = NearestPatches(shape, num_channels=12, num_neighbors=4)
    x = torch.randn(2, *shape, 12, dtype=torch.float64)
    found = nearest(x).index
    places = list(product(*map(range, shape)))
    for image, patches in zip(found, x.flatten(1, -2), strict=True):
        unit = patches / patches.norm(dim=1, keepdim=True)
        for p, place in enumerate(places):
            distance = (unit[p] - unit).square().sum(1) + nearest.relative_pos[0, p]
            apart = [q for q, other in enumerate(places) if np.abs(np.subtract(place, other)).max() > 1]
            expected = sorted(apart, key=distance.tolist().__getitem__)[:4]
            assert sorted(image[p].tolist()) == sorted(expected)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((12, 10), (3, 12, 10)), ((12, 10), (2, 9, 14)), ((6, 7), (2, 3, 6, 7)), ((3, 6, 5), (1, 3, 6, 5))],
)
def test_distances_by_rows_choose_the_same_patches(shape, size, monkeypatch):
    torch.manual_seed(0)
    x = torch.randn(*size, 12)
    expected = NearestPatches(shape, num_channels=12, num_neighbors=3)(x).index
    monkeypatch.setattr(grid, "MOST_PAIRS", 1)
    nearest = NearestPatches(shape, num_channels=12, num_neighbors=3)
    assert not nearest.state_dict()
    for limit in (1, 900, 2**20):
        monkeypatch.setattr(nearest_patches, "ROW_VALUES", limit)
        assert torch.equal(nearest(x).index.sort().values, expected.sort().values)


def test_the_highest_of_long_rows_are_those_of_topk():
    values = torch.randn(5, 4096, generator=torch.Generator().manual_seed(0))
    values[1, 7::128] += 9  # the highest are all in one group
    values[2, :2000] = -math.inf
    for k in (1, 12, 32):
        assert torch.equal(highest(values, k).sort().values, values.topk(k).indices.sort().values)


def test_weights_move_to_a_grid_without_stored_positions_and_back(monkeypatch):
    small = eurnet_debug(5, image_size=64)
    monkeypatch.setattr(grid, "MOST_PAIRS", 40**2)
    large = eurnet_debug(5, image_size=96)
    dropped = set(small.state_dict()) - set(large.state_dict())
    assert dropped and all(name.endswith("relative_pos") for name in dropped)
    large.load_state_dict(resize_positions(small.state_dict(), large))
    small.load_state_dict(resize_positions(large.state_dict(), small))
    assert large(torch.randn(1, 3, 96, 96)).shape == (1, 5)


def test_choice_is_not_differentiated_and_not_made_in_half_precision():
    torch.manual_seed(0)
    nearest = NearestPatches((8, 8), num_channels=16, num_neighbors=5)
    x = torch.randn(2, 8, 8, 16, requires_grad=True)
    expected = nearest(x).index.sort().values
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest(x).index.sort().values, expected)
    assert not any(parameter.requires_grad for parameter in nearest.parameters())


def test_more_neighbors_than_the_grid_has_is_refused_at_once():
    assert NearestPatches((4, 4), 16, num_neighbors=7)(torch.randn(1, 4, 4, 16)).index.shape == (1, 16, 7)
    with pytest.raises(ValueError, match=r"num_neighbors=8 is impossible on a grid of 4 x 4: .* few as 7 of 16"):
        NearestPatches((4, 4), 16, num_neighbors=8)
    with pytest.raises(ValueError, match=r"on a grid of 2 x 2 x 2: .* as few as 0 of 8 patches"):
        NearestPatches((2, 2, 2), 16, num_neighbors=1)
    with pytest.raises(ValueError, match="num_neighbors=0 is impossible"):
        NearestPatches((4, 4), 16, num_neighbors=0)


def test_ranges_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"ShortRange\(num_axes=2\) does not fit a grid of 3 axes, 2 x 4 x 4"):
        GridGraph((2, 4, 4), (ShortRange(2),))
    with pytest.raises(ValueError, match="a MediumRange for 16 patches does not fit a grid of 4 x 5"):
        GridGraph((4, 5), (MediumRange(torch.zeros(1, 16, 2, dtype=torch.long)),))
    with pytest.raises(ValueError, match="one virtual node at most, not 2"):
        GridGraph((4, 5), (LongRange(), LongRange()))
    for shape in [(), (0, 4)]:
        with pytest.raises(ValueError, match="one or more axes of size 1 or more, not shape="):
            GridGraph(shape, ())
    with pytest.raises(ValueError, match=r"the graph is one of 4 x 5 patches, \[B, \*shape, C\], not \[1, 5, 4, 8\]"):
        GridGraph((4, 5), ()).to_edge_index(torch.zeros(1, 5, 4, 8))
    medium = MediumRange(torch.zeros(1, 20, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="the medium range was found for 1 grids, but x has 2"):
        GridGraph((4, 5), (medium,)).to_edge_index(torch.zeros(2, 4, 5, 8))


def test_means_in_half_precision_do_not_overflow():
    """The sum of 12 patches of 20,000 exceeds float16, their mean does not."""
    index = torch.arange(12).expand(1, 12, 12)
    message = torch.full((1, 3, 4, 2), 20_000.0, dtype=torch.float16)
    (medium, long), _ = GridGraph((3, 4), (MediumRange(index), LongRange())).gather(message)
    assert torch.equal(medium, message) and torch.equal(long.expand_as(message), message)
