"""Explained answers as text, as a table and as a picture."""

import numpy as np
import pytest
from PIL import Image

from explain.path_plot import Edge, draw_paths, lay_out
from explain.path_report import COLUMNS, ExplainedAnswer, answer_lines, path_text, table_rows
from explain.paths import AnswerPath, AnswerPaths

PEOPLE = ("George", "Hanna", "Flora", "Nadia", "Carl", "a $name$ that is\nmuch too long for a picture")
RELATIONS = ("father_of", "mother_of", "sister_of", "brother_of", "grandfather_of")
SHORT = AnswerPath((0, 1), (0, 1, 2), ((0, 0, 1), (1, 1, 2)), 0.5, 3.8, -1.4)
LONG = AnswerPath((2, 13, 1), (0, 3, 1, 2), ((0, 0, 3), (1, 2, 3), (1, 1, 2)), 0.7, 1.25, -1.5)


def explained(paths, answer=2, known=False):
    found = AnswerPaths(0, 4, answer, 3.724, list(paths))
    return ExplainedAnswer(("George", "grandfather_of", "?"), 0.98712, known, found, PEOPLE, RELATIONS)


def test_a_path_is_a_line_with_arrows_from_head_to_tail():
    assert path_text(explained([LONG]), LONG) == "George -father_of-> Nadia <-sister_of- Hanna -mother_of-> Flora"


def test_an_answer_is_shown_with_its_paths():
    assert answer_lines(explained([SHORT, LONG], known=True)) == [
        " 98.71 % Flora, known (score 3.72)",
        "    1. George -father_of-> Hanna -mother_of-> Flora",
        "       score 3.80 with nothing else, -1.40 without it",
        "    2. George -father_of-> Nadia <-sister_of- Hanna -mother_of-> Flora",
        "       score 1.25 with nothing else, -1.50 without it",
    ]
    first, second = answer_lines(explained([]))
    assert first == " 98.71 % Flora (score 3.72)" and second.startswith("    no path")


def test_the_table_has_a_row_for_each_step():
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in table_rows(explained([SHORT, LONG]))]
    assert [(row["path"], row["step"]) for row in rows] == [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2"), ("2", "3")]
    assert rows[3] == {
        "head": "George", "relation": "grandfather_of", "tail": "?", "answer": "Flora", "probability": "0.987120",
        "known": "no", "score": "3.724000", "path": "2", "score_alone": "1.250000", "score_without": "-1.500000",
        "importance": "0.700000", "step": "2", "fact_head": "Hanna", "fact_relation": "sister_of", "fact_tail": "Nadia",
    }  # fmt: skip
    (row,) = table_rows(explained([], known=True))
    assert len(row) == len(COLUMNS) and row[3:7] == ["Flora", "0.987120", "yes", "3.724000"] and not any(row[7:])


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
