"""The eight orientations, by arithmetic on pixels."""

import numpy as np
import pytest

from datasets.video.orientation import Orientation, from_matrix
from datasets.video.resize import View

ONE = 1 << 16
EIGHT = {  # (a, b, c, d) -> orientation
    (1, 0, 0, 1): (0, False),
    (0, -1, 1, 0): (90, False),
    (-1, 0, 0, -1): (180, False),
    (0, 1, -1, 0): (270, False),
    (-1, 0, 0, 1): (0, True),
    (0, 1, 1, 0): (90, True),
    (1, 0, 0, -1): (180, True),
    (0, -1, -1, 0): (270, True),
}


def matrix(a, b, c, d):
    return (round(a * ONE), round(b * ONE), 0, round(c * ONE), round(d * ONE), 0, 0, 0, 1 << 30)


@pytest.mark.parametrize("entries", EIGHT)
def test_pixels_go_where_the_matrix_puts_them(entries):
    orientation = from_matrix(matrix(*entries))
    assert orientation == EIGHT[entries]
    a, b, c, d = entries
    stored = np.arange(6).reshape(2, 3)
    places = {(a * x + c * y, b * x + d * y): stored[y, x] for y in range(2) for x in range(3)}
    columns, rows = sorted({x for x, _ in places}), sorted({y for _, y in places})
    upright = np.array([[places[x, y] for x in columns] for y in rows])
    np.testing.assert_array_equal(orientation.turn(stored), upright)
    np.testing.assert_array_equal(orientation.turn_back(upright), stored)
    assert orientation.swaps_sides == (upright.shape != stored.shape)


@pytest.mark.parametrize("orientation", [Orientation(*entry) for entry in EIGHT.values()], ids=str)
def test_a_view_of_upright_frames_is_one_of_stored_frames(orientation):
    stored = np.arange(7 * 9).reshape(7, 9)
    upright = orientation.turn(stored)
    view = View(*upright.shape, top=1, left=2, num_rows=3, num_columns=4)
    wanted = upright[1:4, 2:6]
    turned = orientation.stored_view(view)
    rows, columns = (
        slice(turned.top, turned.top + turned.num_rows),
        slice(turned.left, turned.left + turned.num_columns),
    )
    assert turned[:2] == stored.shape
    np.testing.assert_array_equal(orientation.turn(stored[rows, columns]), wanted)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ((0, 0, 0, 0), (0, False)),
        ((1, 0, 0, 0), (0, False)),
        ((1, 1, 1, 1), (0, False)),
        ((2, 0, 0, 3), (0, False)),
        ((-2, 0, 0, 1), (0, True)),
        ((0.97, 0.26, -0.26, 0.97), (0, False)),
        ((0.26, 0.97, -0.97, 0.26), (270, False)),
    ],
)
def test_other_matrices(entries, expected):
    assert from_matrix(matrix(*entries)) == expected
