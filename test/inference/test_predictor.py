"""`Predictor` gives what an evaluation gives, to the last digit, whatever a video is given as."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.video import VideoReader
from inference import Prediction, Predictor
from settings import SettingsError
from tools import evaluate


@pytest.fixture(scope="module")
def predictor(brief_run):
    return Predictor(brief_run, device="cpu", top=3)


@pytest.fixture(scope="module")
def videos(brief_run):
    """The validation videos, in the order of their list. The fifth is broken."""
    folder = brief_run.parent / "videos"
    return [str(folder / line.split("\t")[2]) for line in (folder / "val.txt").read_text().splitlines()]


def test_it_equals_the_evaluation_of_the_same_list(brief_run, videos, tmp_path):
    run = shutil.copytree(brief_run, tmp_path / "run")
    views = ["evaluation.num_clips=3", "evaluation.num_crops=2", "evaluation.clips_per_forward=12"]
    evaluate.main(["--run-dir", str(run), *views])
    with open(run / "evaluations/3x2/predictions.csv", newline="") as file:
        scored = {row["path"]: row for row in csv.DictReader(file)}
    predictions = list(Predictor(run, views, device="cpu")(videos))
    assert [one.path for one in predictions] == videos and len(scored) == 8
    assert [one.path for one in predictions if not one] == [path for path in videos if path not in scored]
    for one in filter(None, predictions):
        row = scored[one.path]
        for n, (name, probability) in enumerate(one.guesses, 1):
            assert (row[f"guess{n}"], row[f"probability{n}"]) == (name, f"{probability:.6f}")
        assert sum(one.probabilities.values()) == pytest.approx(1) and len(one.probabilities) == 8


def test_rows_that_are_done_change_no_digit_of_the_others(predictor, brief_run):
    files = predictor.find_inputs([brief_run.parent / "videos/val"])
    whole = list(predictor.predict_found(files))
    assert len(whole) == 9 and sum(not one for one in whole) == 1
    for done in (1, 4, 6, 9):
        assert list(predictor.predict_found(files, range(done))) == whole[done:]


def test_a_video_is_the_same_as_path_open_file_and_frames(predictor, videos):
    with VideoReader(videos[0]) as reader:
        frames = reader.get_frames(range(reader.num_frames))
    (expected,) = predictor(videos[0])
    assert expected and len(expected.guesses) == 3 and expected.label == expected.guesses[0][0]
    with open(videos[0], "rb") as file:
        content = Path(videos[0]).read_bytes()
        given = [file, io.BytesIO(content), content, frames, frames.numpy()]
        assert [one.probabilities for each in given for one in predictor(each)] == [expected.probabilities] * 5
        colors = [frames.numpy()[..., ::-1], frames.numpy()[..., ::-1].copy()]  # the usual step from BGR to RGB
        assert len({tuple(one.probabilities.values()) for each in colors for one in predictor(each)}) == 1
        file.seek(0)
        together = list(predictor([frames, file, videos[0]]))
    assert [one.path for one in together] == ["frames 1", videos[0], videos[0]]
    one_by_one = list(predictor(iter([frames, videos[0]])))
    assert [one.probabilities for one in one_by_one] == [expected.probabilities] * 2
    assert [one.path for one in one_by_one] == ["frames 1", videos[0]]


def test_what_cannot_be_read_is_a_prediction_with_a_reason(predictor, videos, tmp_path):
    text = tmp_path / "note.mp4"
    text.write_text("no video")
    with open(text) as as_text:
        given = [videos[4], io.BytesIO(b"no video"), np.zeros((8, 40, 40, 3)), torch.zeros(8, 3, 40, 40), as_text]
        failures = list(predictor(given))
    assert not any(failures) and all(one.guesses == () and one.probabilities == {} for one in failures)
    assert failures[0].path == videos[4]
    reasons = [one.failure for one in failures[1:]]
    assert reasons[0].startswith("cannot be opened as a video") and failures[1].path == "file 2"
    assert reasons[1] == "is float64 [8, 40, 40, 3]; expected frames, uint8 [T, H, W, 3]"
    assert reasons[2] == "is float32 [8, 3, 40, 40]; expected frames, uint8 [T, H, W, 3]"
    assert reasons[3] == "is open as text; open it in binary mode, 'rb'"


def test_wrong_inputs_are_errors_before_the_first_prediction(predictor, videos):
    with pytest.raises(SettingsError, match=r"no file or folder of videos at gone\.mp4"):
        predictor([videos[0], "gone.mp4"])
    with pytest.raises(SettingsError, match="windows slide over a file or a stream; name it, not BytesIO"):
        predictor.windows(io.BytesIO())
    for nothing, kind in (
        (None, "NoneType"),
        (5, "int"),
        ([None], "NoneType, input 1"),
        ([videos[0], 5], "int, input 2"),
    ):
        with pytest.raises(SettingsError, match=f"cannot predict on {kind}: expected a path"):
            predictor(nothing)
    with pytest.raises(SettingsError, match="an empty path was given"):
        predictor("")
    for top in (0, 2.5):
        with pytest.raises(SettingsError, match=f"top is {top}; it must be a whole number and at least 1"):
            Predictor(top=top)
    assert Prediction("a.mp4", failure="is empty").label == ""
