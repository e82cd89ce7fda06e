"""Space-filling curves against the authors' orders, and the properties that give them their names."""

import hashlib

import numpy as np
import pytest

from backbones.curves import CURVES, curve_order, order_in_rectangle

# The first 16 digits of the SHA-256 of the authors' orders, as little-endian 64-bit integers.
AUTHORS = {
    ("sis", 224, 16): "eb4c5c6949fe2f27",
    ("sis", 384, 16): "e7d9b84a88b72bb6",
    ("sis", 256, 16): "f28c28a460f6a51b",
    ("sweep", 224, 1): "73111224529aba2e",
    ("scan", 224, 1): "9717517aebbc5d8d",
    ("zorder", 256, 1): "835647c323ba234f",
    ("hilbert", 256, 1): "0b9f2cc4f024fb6a",
    ("zorder", 16, 1): "d5ddc8b3b9fcca4a",
    ("hilbert", 16, 1): "0cf0aed20e0282c3",
}


@pytest.mark.parametrize("curve", AUTHORS)
def test_orders_are_the_authors(curve):
    order = curve_order(*curve)
    assert hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:16] == AUTHORS[curve]


def test_four_by_four():
    assert curve_order("scan", 4).tolist() == [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11, 15, 14, 13, 12]
    assert curve_order("sis", 4, 2).tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert curve_order("zorder", 4).tolist() == curve_order("sis", 4, 2).tolist()
    assert curve_order("hilbert", 4).tolist() == [0, 1, 5, 4, 8, 12, 13, 9, 10, 14, 15, 11, 7, 6, 2, 3]


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("size", [2, 4, 8, 64])
def test_every_position_is_passed_once(name, size):
    order = curve_order(name, size, 2)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(size * size))


@pytest.mark.parametrize("name", CURVES)
def test_rectangles_are_filled_in_the_order_of_the_square(name):
    assert np.array_equal(order_in_rectangle(name, 8, 8, 2), curve_order(name, 8, 2))
    order = order_in_rectangle(name, 6, 10, 2)
    assert np.array_equal(np.sort(order), np.arange(60))
    size = 16 if name in ("zorder", "hilbert") else 10
    places = [divmod(position, size) for position in curve_order(name, size, 2)]
    assert [divmod(position, 10) for position in order] == [(r, c) for r, c in places if r < 6 and c < 10]


@pytest.mark.parametrize("name", ["scan", "hilbert"])
def test_curves_without_jumps(name):
    rows, columns = np.divmod(curve_order(name, 32), 32)
    assert np.array_equal(abs(np.diff(rows)) + abs(np.diff(columns)), np.ones(32 * 32 - 1))


@pytest.mark.parametrize("name", ["sis", "zorder", "hilbert"])
def test_pieces_are_square_patches_along_the_same_curve(name):
    rows, columns = np.divmod(curve_order(name, 32, 4).reshape(-1, 16), 32)
    patches = rows // 4 * 8 + columns // 4
    assert (patches == patches[:, :1]).all()
    assert np.array_equal(patches[:, 0], curve_order("sweep" if name == "sis" else name, 8))


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (("hilbrt", 8), "no curve is called 'hilbrt'; did you mean 'hilbert'"),
        (("hilbert", 14), "hilbert fills grids with a power of two as size, not 14"),
        (("zorder", 224), "zorder fills grids with a power of two as size, not 224"),
        (("sis", 14), "not a grid of size 14 with patches of size 1; for single elements use sweep"),
        (("sis", 14, 4), "not a grid of size 14 with patches of size 4"),
    ],
)
def test_unknown_curves_and_sizes(curve, message):
    with pytest.raises(ValueError, match=message):
        curve_order(*curve)
