"""The learning-rate range test as a person starts it."""

import csv

import pytest

from settings import SettingsError
from tools import find_learning_rate


def test_it_writes_the_curve_and_its_plot(recipe, tmp_path):
    arguments = ["-c", str(recipe), "--output", str(tmp_path / "out"), "data.num_workers=0"]
    find_learning_rate.main([*arguments, "--steps", "10", "--lowest", "1e-4", "--highest", "1e-2"])
    rows = list(csv.DictReader((tmp_path / "out/learning_rate.csv").read_text().splitlines()))
    assert [float(rows[0]["learning_rate"]), float(rows[-1]["learning_rate"])] == [1e-4, 1e-2] and len(rows) == 10
    assert (tmp_path / "out/learning_rate.png").stat().st_size > 5000
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_is_an_error_before_the_test(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="Not a directory; choose another --output"):
        find_learning_rate.main(["-c", str(recipe), "--output", str(tmp_path / "file/below")])
