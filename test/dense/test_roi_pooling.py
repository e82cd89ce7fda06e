"""From which level a region is read, and what is read there."""

import math

import pytest
import torch
from torchvision.ops import roi_align

from dense.roi_pooling import level_of, pool_regions, with_batch_index


def square(side: float) -> torch.Tensor:
    return torch.tensor([[0.0, 0, 0, side, side]])


@pytest.mark.parametrize("side, level", [(3, 0), (111, 0), (112, 1), (223, 1), (224, 2), (447, 2), (448, 3), (4000, 3)])
def test_levels_change_where_sides_double(side, level):
    assert level_of(square(side), (4, 8, 16, 32)).tolist() == [level]


def test_levels_are_those_of_the_logarithm():
    torch.manual_seed(0)
    regions = torch.cat((torch.zeros(500, 3), torch.rand(500, 2) * 900), dim=1)
    for (_, _, _, width, height), level in zip(regions.tolist(), level_of(regions, (4, 8, 16, 32)), strict=True):
        assert level == min(max(math.floor(math.log2(math.sqrt(width * height) / 56 + 1e-6)), 0), 3)


def test_levels_of_equal_strides_go_to_the_coarsest():
    assert level_of(square(200), (4, 8, 8, 8)).tolist() == [3]
    assert level_of(square(60), (4, 8, 8, 8)).tolist() == [0]


def test_regions_are_read_from_their_image_and_level():
    torch.manual_seed(1)
    maps = [torch.randn(2, 3, 64 >> i, 64 >> i, dtype=torch.float64) for i in range(2)]
    boxes = [torch.tensor([[3.0, 5, 40, 60], [10.0, 20, 240, 250]]), torch.tensor([[100.0, 90, 130, 110]])]
    regions = with_batch_index([own.double() for own in boxes])
    assert regions[:, 0].tolist() == [0, 0, 1]
    pooled = pool_regions(maps, regions, (4, 8), 7)
    for number, level in enumerate((0, 1, 0)):
        expected = roi_align(maps[level], regions[number : number + 1], 7, 1 / (4 << level), aligned=True)
        torch.testing.assert_close(pooled[number : number + 1], expected)


def test_a_linear_map_is_averaged_at_the_centres_of_cells():
    x = torch.arange(32.0)[None, None, None].expand(1, 1, 32, 32)  # the value is the column
    pooled = pool_regions([x], torch.tensor([[0.0, 8, 8, 24, 24]]), (1,), 4)
    centres = 8 + 16 * (torch.arange(4) + 0.5) / 4 - 0.5  # columns count from the centre of the first one
    torch.testing.assert_close(pooled[0, 0], centres.expand(4, 4))


def test_half_precision_maps_are_read_in_single():
    torch.manual_seed(2)
    x, region = torch.randn(1, 4, 50, 50).bfloat16(), torch.tensor([[0.0, 601.3, 302.7, 655.1, 411.9]])
    pooled = pool_regions([x], region, (16,), 7)
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled, pool_regions([x.float()], region, (16,), 7).bfloat16())


def test_no_regions():
    assert pool_regions([torch.zeros(1, 5, 9, 9)], torch.zeros(0, 5), (4,), 7).shape == (0, 5, 7, 7)
