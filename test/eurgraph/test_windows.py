"""Nearest patches in windows against a full matrix of distances, on maps of any size."""

import math

import pytest
import torch
import torch.nn.functional as F

from eurgraph import nearest as nearest_patches
from eurgraph import windows
from eurgraph.nearest import relative_position
from eurgraph.windows import Lattice, WindowedNearestPatches, diagonal_windows, tiled_windows

SIZES = [(20, 20), (17, 23), (24, 9), (7, 4), (4, 4), (1, 9), (30, 3)]
C, K = 16, 5


def full_matrix(x: torch.Tensor, boxes: list[Lattice]) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances of all pairs [B, N, N], and which of them are candidates: in one window, an even number of steps."""
    height, width = x.shape[1:3]
    p = F.normalize(x.flatten(1, 2), dim=2)
    distance = (p[:, :, None] - p[:, None]).square().sum(3) + relative_position((height, width), x.shape[3])
    place = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    candidate = torch.zeros(height * width, height * width, dtype=torch.bool)
    for box in boxes:
        corner = torch.tensor([box.rows.start, box.columns.start])
        end = torch.tensor([box.rows.stop, box.columns.stop])
        inside = ((place >= corner) & (place < end)).all(1)
        parity = (place - corner) % 2
        candidate |= inside[:, None] & inside & (parity[:, None] == parity).all(2)
    return distance, candidate


def touching(height: int, width: int) -> torch.Tensor:
    place = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    return (place[:, None] - place).abs().amax(2) <= 1


def sets(index: torch.Tensor) -> list[list[set[int]]]:
    return [[set(row) for row in image] for image in index.tolist()]


@pytest.mark.parametrize("length", [100, 10, 6])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_authors_graph_is_the_smallest_of_a_full_matrix(size, length):
    x = torch.randn(2, *size, C, generator=torch.Generator().manual_seed(0)).double()
    distance, candidate = full_matrix(x, diagonal_windows(*size, length))
    distance = torch.where(candidate, distance, 1e5) + 1e5 * touching(*size)
    k = min(K, math.prod(size))
    expected = distance.argsort(dim=2, stable=True)[:, :, :k]
    found = WindowedNearestPatches(C, K, length, "authors")(x).index
    assert found.shape == expected.shape and sets(found) == sets(expected)


@pytest.mark.parametrize("length", [100, 10, 6])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tiles_are_filled_by_others_of_the_window_in_order(size, length):
    x = torch.randn(2, *size, C, generator=torch.Generator().manual_seed(0)).double()
    boxes = tiled_windows(*size, length)
    distance, candidate = full_matrix(x, boxes)
    num_patches = math.prod(size)
    itself = torch.eye(num_patches, dtype=torch.bool)
    tier = torch.full((num_patches, num_patches), 100.0)  # another window
    for box in boxes:
        inside = torch.zeros(*size, dtype=torch.bool)
        inside[box.rows.start : box.rows.stop, box.columns.start : box.columns.stop] = True
        tier[inside.flatten()[:, None] & inside.flatten()] = 10
    tier[(tier == 10) & touching(*size)] = 20
    tier[candidate] = 0
    tier[itself] = 30
    k = min(K, *(box.size for box in boxes))
    expected = (distance + tier).topk(k, largest=False).indices
    assert sets(WindowedNearestPatches(C, K, length)(x).index) == sets(expected)


@pytest.mark.parametrize("kind", windows.WINDOWS)
def test_distances_in_parts_give_the_same_graph(kind, monkeypatch):
    x = torch.randn(3, 21, 26, C)
    nearest = WindowedNearestPatches(C, K, 14, kind)
    expected = nearest(x).index
    for limit in (1, 600, 5000):
        monkeypatch.setattr(nearest_patches, "CACHED_VALUES", limit)
        assert sets(nearest(x).index) == sets(expected)


def test_no_more_distances_at_a_time_than_those_of_a_window_and_parity(monkeypatch):
    largest = []
    baddbmm = torch.baddbmm

    def spy(*args, **options):
        result = baddbmm(*args, **options)
        largest.append(result.numel())
        return result

    monkeypatch.setattr(torch, "baddbmm", spy)
    monkeypatch.setattr(nearest_patches, "CACHED_VALUES", 2**30)
    WindowedNearestPatches(C, K)(torch.randn(1, 40, 60, C))
    assert largest == [(20 * 30) ** 2] * 4
    largest.clear()
    monkeypatch.setattr(nearest_patches, "CACHED_VALUES", 30000)
    WindowedNearestPatches(C, K)(torch.randn(1, 40, 60, C))
    assert max(largest) <= 30000 and sum(largest) == 4 * (20 * 30) ** 2


def test_a_map_of_one_parity_has_the_graph_of_the_classifier():
    """With dilation, a patch sees every second row and column: those of a map that is as large as their number."""
    x = torch.randn(1, 12, 14, C).double()
    apart = torch.zeros(1, 24, 28, C).double()
    apart[:, ::2, ::2] = x
    nearest = WindowedNearestPatches(C, K)(apart).index.view(24, 28, K)[::2, ::2]
    rows, columns = nearest // 28 // 2, nearest % 28 // 2
    found = (rows * 14 + columns).view(1, -1, K)
    position = relative_position((24, 28), C).view(24, 28, 24, 28)[::2, ::2, ::2, ::2].flatten(2).flatten(0, 1)
    distance = full_matrix(x, [])[0] - relative_position((12, 14), C) + position
    distance.diagonal(dim1=1, dim2=2).fill_(math.inf)
    assert sets(found) == sets(distance.topk(K, largest=False).indices)


def test_windows_lie_on_the_diagonal_or_everywhere():
    assert diagonal_windows(50, 84, 112) == [Lattice(range(50), range(84))]
    # Half of an ordinary COCO test image, at a stride of 8 and with windows of 112
    boxes = diagonal_windows(100, 168, 112)
    assert [box.shape for box in boxes] == [(67, 112), (33, 56)]
    assert 100 * 168 - sum(box.size for box in boxes) == 7448
    assert 100 * 168 - sum(box.size for box in diagonal_windows(100, 168, 144)) == 4080
    assert [box.shape for box in tiled_windows(100, 168, 144)] == [(100, 84), (100, 84)]
    for size in [(100, 168), (13, 5), (1, 40)]:
        covered = torch.zeros(size, dtype=torch.long)
        for box in tiled_windows(*size, 12):
            assert max(box.shape) <= 12
            covered[box.rows.start : box.rows.stop, box.columns.start : box.columns.stop] += 1
        assert covered.eq(1).all()


def test_features_are_not_differentiated_and_half_precision_chooses_in_float32():
    x = torch.randn(1, 16, 16, C, requires_grad=True)
    assert not WindowedNearestPatches(C, K)(x).index.requires_grad
    half = x.detach().half()
    expected = WindowedNearestPatches(C, K)(half.float()).index
    assert torch.equal(WindowedNearestPatches(C, K)(half).index, expected)


def test_options_that_are_not_possible():
    with pytest.raises(ValueError, match="windows must be one of tiled, authors, not 'diagonal'"):
        WindowedNearestPatches(C, K, windows="diagonal")
    with pytest.raises(ValueError, match="window_length and num_neighbors must be 1 or more, not 0 and 5"):
        WindowedNearestPatches(C, K, 0)
