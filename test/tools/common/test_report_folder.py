"""Names of reports: by protocol, list and weights; other evaluations keep theirs."""

import json
import logging
import re

import pytest
import torch

from engine.distributed import Ranks
from settings import parse_settings, read_recipe
from tasks import find_task
from tools.common.report_folder import claim_folder, describe, write_made_from


@pytest.fixture
def report(recipe, motion_videos, tmp_path):
    """report(*overrides, weights=TEXT, ...) -> the name of the folder for a report of the run, which it then holds."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.yaml").write_text(recipe.read_text())

    def make(*overrides, weights="best", where=run / "checkpoints/best.safetensors", suffixes=(), average=False):
        where.write_text(weights)
        values = read_recipe(recipe, overrides)
        task_class = find_task(values, "recipe")
        task = task_class(parse_settings(task_class.Settings, values), Ranks(0, 1, torch.device("cpu")))
        made_from = describe(task, run, where, average)
        folder = claim_folder(task, run, suffixes, made_from)
        (folder / "summary.json").write_text(json.dumps(overrides))
        write_made_from(folder, made_from)
        assert folder.parent == run / "evaluations"
        return folder.name

    make.run, make.videos = run, motion_videos
    return make


@pytest.fixture
def lists(motion_videos, tmp_path):
    """lists(folder, name) -> a list of three validation videos."""

    def make(folder, name, keep=3):
        (tmp_path / folder).mkdir(exist_ok=True)
        lines = (motion_videos / "val.txt").read_text().splitlines(keepends=True)
        (tmp_path / folder / name).write_text("".join(lines[:keep]))
        return f"data.val={tmp_path / folder / name}"

    return make


def test_the_same_evaluation_again_replaces_its_report(report, lists):
    test = lists("a", "test.txt")
    for _ in range(2):
        assert report() == "1x1"
        assert report("data.num_workers=0", "evaluation.clips_per_forward=2", "data.train_view.crop=16") == "1x1"
        assert report("evaluation.num_clips=2") == "2x1"
        assert report(suffixes=["last"], where=report.run / "checkpoints/last.pt") == "1x1-last"
        assert report(test) == "1x1-test"
    assert json.loads((report.run / "evaluations/1x1/made_from.json").read_text())["settings"]["precision"] == "float32"


def test_another_list_is_named(report, lists):
    """Where two lists have the same name, their folders tell them apart, then a digest."""
    root = f"data.root={report.videos}"
    assert report(root) == "1x1-motion"  # the same list, but its paths have another root
    places = [("a", "test.txt"), ("b", "test.txt"), ("c", "val.txt"), ("c/b", "test.txt")]
    names = [report(lists(*place)) for place in places]
    assert names[:3] == ["1x1-test", "1x1-b-test", "1x1-c-val"]
    assert re.fullmatch("1x1-test-[0-9a-f]{6}", names[3])
    assert [report(lists(*place)) for place in places] == names and report() == "1x1"


def test_other_settings_of_the_same_name_are_numbered_which_is_said(report, caplog):
    caplog.set_level(logging.INFO)
    assert report() == "1x1"
    assert report("data.frame_interval=2") == "1x1-2"
    assert (
        "1x1 has the report of another evaluation, which is kept (settings.data.frame_interval: 3 -> 2)" in caplog.text
    )
    assert report("train.precision=bf16") == "1x1-3"
    assert report("data.frame_interval=2") == "1x1-2" and report() == "1x1"


def test_changed_contents_of_the_same_list_are_another_evaluation(report, lists):
    assert report(lists("a", "test.txt")) == "1x1-test"
    assert report(lists("a", "test.txt", keep=4)) == "1x1-test-2"


def test_weights_of_the_run_move_on_but_files_do_not(report, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert report() == "1x1" and report(weights="better") == "1x1"
    assert "1x1: replaces the report of earlier weights of this run" in caplog.text
    files = {"where": tmp_path / "model.pth", "suffixes": ["model"]}
    assert report(**files) == "1x1-model" and report(weights="others", **files) == "1x1-model-2"
    average = {"where": report.run / "checkpoints/last.pt", "suffixes": ["last", "average"], "average": True}
    assert report(**average) == "1x1-last-average"


def test_a_report_of_unknown_origin_is_kept(report):
    folder = report.run / "evaluations/1x1"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    assert report() == "1x1-2" and (folder / "summary.json").read_text() == "{}"


def test_folds_are_told_apart(report):
    folds = ("data.val=null", "data.folds=3", f"data.root={report.videos}")
    for _ in range(2):
        assert report() == "1x1"
        assert [report(*folds, f"data.fold={n}") for n in (0, 1)] == ["1x1-fold0of3-train", "1x1-fold1of3-train"]
