"""Whatever the classes are called, the matrix is drawn, and without a warning."""

import warnings

import numpy as np
import pytest
from PIL import Image

from evaluators.confusion_plot import MAX_NAME, one_line, plot_confusion, plot_names

NAMES = ["from_$5_to_$9", r"$\frac{", "two\nlines\tand tabs", "x" * 500, "caf\udce9", "\x1b[31m", "\u732b", ""]


@pytest.mark.parametrize("confusion", [np.eye(8, dtype=int), np.zeros((8, 8), dtype=int), np.full((8, 8), np.nan)])
def test_any_name_and_any_matrix_is_drawn(confusion, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_confusion(confusion, NAMES, tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").width > 500


def test_names_are_drawn_as_they_are_or_as_their_label():
    dollars, formula, lines, long, bytes_of_latin1, escape, cat, empty = plot_names(NAMES)
    assert (dollars, formula, lines) == ("from_$5_to_$9", r"$\frac{", "two lines and tabs")
    assert len(long) == MAX_NAME and long.endswith("x\u2026")
    assert (bytes_of_latin1, escape) == ("caf\ufffd", "\ufffd[31m")
    assert (cat, empty) == ("class 6", "class 7")  # the font has no such character


def test_one_line():
    assert one_line(" a\r\n b\x00", 10) == "a b\ufffd" and one_line("abcdef", 4) == "abc\u2026"
