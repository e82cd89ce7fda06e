"""Intervals and tests against published examples and plain sums."""

from math import comb

import pytest

from report.statistics import PairedCounts, share_interval


def test_wilson_interval():
    assert share_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert share_interval(0, 20) == pytest.approx((0, 0.1611), abs=1e-4)
    assert share_interval(1, 29)[1] == 1


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 5), (3, 9), (9, 3), (40, 60), (2000, 2200)])
def test_mcnemar(a, b):
    tail = sum(comb(a + b, k) for k in range(min(a, b) + 1))
    assert PairedCounts(10, a, b, 3).p_value() == min(1, 2 * tail / 2 ** (a + b))


def test_paired_difference():
    counts = PairedCounts(both=50, only_a=10, only_b=20, neither=20)
    low, high = counts.difference_interval()
    assert counts.difference == pytest.approx(0.1) and low < 0.1 < high
    # By hand: (21 - 11) / 102, plus or minus 1.96 sqrt((21/102 + 11/102 - (10/102)^2) / 102).
    assert (low, high) == pytest.approx((-0.00906, 0.20514), abs=1e-4)
    swapped = PairedCounts(50, 20, 10, 20).difference_interval()
    assert swapped == pytest.approx((-high, -low))
