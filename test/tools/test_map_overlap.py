"""The overlap of maps and made masks as a person measures it."""

import pytest

from settings import SettingsError
from tools import map_overlap


def measure(run, num_files):
    made = "data.make={num_train: 24, num_val: 9, size: 40, num_frames: 20}"  # as test/conftest.py made them
    files = ["--run-dir", str(run), "--files", str(num_files), "--seeds", "1"]
    map_overlap.main([*files, "--layer", "conv3", f"data.root={run.parent}/videos", made])


def test_it_prints_a_table_and_leaves_out_the_broken_video(brief_run, capsys):
    measure(brief_run, 9)
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "| map | share on the shapes | untrained | AUC | untrained |"
    assert [row.split(" | ")[0] for row in rows] == ["| area of the shapes", "| Grad-CAM", "| projection of a node"]
    area = rows[0].strip("| ").split(" | ")
    assert area[1] == area[2] and area[3:] == ["0.500", "0.500"]  # the same for every network


def test_too_few_files_are_an_error(brief_run):
    with pytest.raises(SettingsError, match="1 of the 1 files can be read and show a shape and background"):
        measure(brief_run, 1)
