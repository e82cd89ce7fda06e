"""The end of a run: the best and the last checkpoint, and which list chose."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import save_file
from simulated_runs import without_plots

from datasets.synthetic.image_shapes import make_image_shapes
from report.run_files import open_run_files
from report.verdict import judge
from settings import write_yaml
from tools import evaluate, train
from tools.common.final_report import Result, read_result
from tools.common.run_scores import CheckpointScore, chosen_by, read_scores


def make_run(folder, scores, best):
    """A run with the validation `scores` [(step, split, score)], of which number `best` has the best weights."""
    (folder / "checkpoints").mkdir(parents=True)
    rows = [{"step": step, "split": split, "epoch": 1.0, "score": score, "loss": 0.5} for step, split, score in scores]
    rows.insert(0, {"step": 1, "split": "train", "loss": 9})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    step, split, score = scores[best]
    facts = {"step": str(step), "score": repr(score), "weights": split.replace("val", "model")}
    save_file({"x": np.zeros(1, np.float32)}, folder / "checkpoints/best.safetensors", facts)
    return folder


def test_the_scores_of_a_run_are_those_it_logged(tmp_path):
    run = make_run(tmp_path / "run", [(4, "val", 0.5), (4, "val_ema", 0.7), (8, "val", 0.6), (8, "val_ema", 0.65)], 1)
    scores = read_scores(run)
    assert scores.best == CheckpointScore(4, True, 0.7, {"loss": 0.5})
    assert [(score.step, score.averaged, score.score) for score in scores.last] == [(8, False, 0.6), (8, True, 0.65)]
    assert chosen_by(run, run / "checkpoints/best.safetensors") == "data.val, the best of 4 scores"
    assert chosen_by(run, run / "checkpoints/last.pt") == "nothing: the last step"
    assert chosen_by(run, tmp_path / "released.pth") is None
    once = make_run(tmp_path / "once", [(8, "val", 0.6)], 0)
    assert read_scores(once).choice == "nothing: the only score of the run"


@pytest.mark.parametrize("best", [0, 1])
def test_of_equal_scores_the_weights_say_whose_they_are(tmp_path, best):
    scores = read_scores(make_run(tmp_path / "run", [(4, "val", 0.7), (4, "val_ema", 0.7)], best))
    assert scores.best.averaged == bool(best)


def test_a_list_without_labels_has_no_score():
    nothing = CheckpointScore(4, False, -math.inf)
    (_, best, *_) = Result("data.val", "val.txt", "nothing", nothing, [CheckpointScore(4, False, None)]).lines()
    assert "score -" in best
    lines = Result(
        "data.val", "val.txt", "data.val, the best of 2 scores", None, [CheckpointScore(4, False, None)]
    ).lines()
    assert len(lines) == 2 and "chose the best" not in "".join(lines)


def test_a_score_on_the_list_that_chose_is_a_validation_score():
    best, last = CheckpointScore(4, False, 0.7), CheckpointScore(8, False, 0.6)
    chosen = "data.val, the best of 4 scores"
    lines = Result("data.val", "val.txt", chosen, best, [last]).lines()
    assert lines[1] == "  best  step 4       score 0.7000  chosen by data.val, the best of 4 scores"
    assert (
        lines[2] == "  last  step 8       score 0.6000  chosen by nothing"
        and "a validation score, not a test" in lines[3]
    )
    tested = Result("data.test", "test.txt", chosen, best, [last]).lines()
    assert tested[0] == "checkpoints on data.test (test.txt):" and "validation" not in "".join(tested)
    once = Result("data.val", "val.txt", "nothing: the only score of the run", last, [last]).lines()
    assert len(once) == 3 and "chosen by nothing: the only score of the run" in once[1]
    nothing = Result("data.val", "val.txt", "nothing: the only score of the run", None, []).lines()
    assert len(nothing) == 1


@pytest.fixture(scope="module")
def tested_run(tmp_path_factory):
    """A run of four steps with a held-out share and a test list."""
    folder = tmp_path_factory.mktemp("tested")
    shapes = make_image_shapes(folder / "shapes", num_train=40, num_val=9, size=32)
    recipe = {
        "task": "image_classification",
        "model": {"name": "hornet_debug_gf"},
        "data": {"train": f"{shapes}/train.txt", "val": 0.3, "test": f"{shapes}/val.txt", "num_workers": 0,
                 "train_view": {"size": 32}, "val_view": {"size": 32}},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "train": {"num_samples": 16, "batch_size": 4, "evaluate_every_epochs": 0.2, "ema_decay": 0.9},
        "run": {"device": "cpu", "num_threads": 1},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(write_yaml(recipe))
    with without_plots():
        train.main(["-c", str(folder / "recipe.yaml"), f"run.dir={folder / 'run'}"])
    return folder / "run"


def test_a_test_list_scores_the_best_and_the_last_checkpoint(tested_run, monkeypatch):
    result = read_result(tested_run)
    assert result.is_test and result.source.endswith("shapes/val.txt") and "the best of" in result.choice
    assert [(score.step, score.averaged) for score in result.last] == [(4, False), (4, True)]
    for name, score in (("centre-test", result.best), ("centre-test-last", result.last[0])):
        summary = json.loads((tested_run / "evaluations" / name / "summary.json").read_text())
        assert summary["on"] == "test" and summary["images_listed"] == 9
        assert math.isclose(summary["loss"], score.summary["loss"], rel_tol=1e-9)
    chosen = json.loads((tested_run / "evaluations/centre/summary.json").read_text())
    assert chosen["on"] == "val" and chosen["chosen_by"] == result.choice
    log = (tested_run / "log.txt").read_text()
    assert "checkpoints on data.test" in log and f"chosen by {result.choice}" in log
    names = {path.name for path in (tested_run / "evaluations").iterdir()}
    monkeypatch.setattr("tools.common.loading_runs.try_to_write_page", lambda run: None)
    evaluate.main(["--run-dir", str(tested_run), "evaluation.on=test"])  # the same report, in the same folder
    assert {path.name for path in (tested_run / "evaluations").iterdir()} == names


def test_the_page_names_the_list_and_what_chose(tested_run):
    run = open_run_files(tested_run)
    verdicts = {found.name: judge(found) for found in run.evaluations}
    assert verdicts["centre"].protocol == "centre, validation list"
    assert verdicts["centre-test"].protocol == "centre-test, test list"
    choice = read_result(tested_run).choice
    assert ("checkpoint chosen by", choice) in verdicts["centre-test"].facts
    assert ("checkpoint chosen by", "nothing: the last step") in verdicts["centre-test-last"].facts
