"""Pictures of explained answers: paths from left to right, shared facts once, a panel for each answer."""

import numpy as np
import pytest
from explained_answers import LONG, SHORT, explained
from PIL import Image

from explain.path_plot import Edge, draw_paths, lay_out
from explain.paths import AnswerPath


def test_paths_run_from_left_to_right_and_share_facts():
    layout = lay_out([SHORT, LONG])
    assert layout.places == {0: (0, 0), 2: (3, 0), 1: (1.5, 0), 3: (1, 1)}
    assert (layout.num_columns, layout.num_rows) == (4, 2)
    assert layout.edges == [Edge((0, 0, 1), 0), Edge((1, 1, 2), 0), Edge((0, 0, 3), 1), Edge((1, 2, 3), 1)]


def test_a_path_without_new_nodes_needs_no_row():
    other = AnswerPath((5, 1), (0, 1, 2), ((1, 3, 0), (1, 1, 2)), 0.1, 0.2, 0.3)
    layout = lay_out([SHORT, other, LONG])
    assert layout.num_rows == 2 and layout.places[3] == (1, 1) and Edge((1, 3, 0), 1) in layout.edges


@pytest.mark.parametrize("paths", [[SHORT, LONG], [SHORT], []], ids=len)
def test_a_picture_shows_the_colors_of_all_paths(paths, tmp_path):
    draw_paths([explained(paths)], tmp_path / "new" / "why.png")
    with Image.open(tmp_path / "new" / "why.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    shown = [(pixels == color).all(1).sum() for color in ((0xC8, 0x50, 0x1E), (0x2B, 0x6C, 0xB0))]
    assert [count > 100 for count in shown] == [bool(paths), len(paths) == 2]


def test_panels_are_below_each_other_and_any_name_is_drawn(tmp_path):
    odd = AnswerPath((0, 1), (0, 5, 2), ((0, 0, 5), (5, 1, 2)), 0.5, 3.8, -1.4)
    sizes = []
    for answers in ([explained([odd])], [explained([odd]), explained([SHORT, LONG]), explained([])]):
        draw_paths(answers, tmp_path / "why.png")
        with Image.open(tmp_path / "why.png") as image:
            sizes.append(image.size)
    assert sizes[1][1] > 2 * sizes[0][1] and sizes[1][0] < 2000
