"""The tools around training, on detection and segmentation, as a person starts them."""

import csv
import json
import re

import pytest
from scene_recipes import RECIPES, make_scenes

from settings import write_yaml
from tools import compare_runs, evaluate, find_learning_rate, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=RECIPES)
def recipe(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    path = folder / "recipe.yaml"
    path.write_text(write_yaml(RECIPES[request.param](make_scenes(folder / "set", num_val=2))))
    return path


def test_a_learning_rate_is_searched(recipe, tmp_path):
    find_learning_rate.main(["-c", str(recipe), "--output", str(tmp_path), "--steps", "10", "--highest", "0.1"])
    with open(tmp_path / "learning_rate.csv") as file:
        assert len(list(csv.DictReader(file))) == 10
    assert (tmp_path / "learning_rate.png").stat().st_size > 5000


def test_runs_are_compared_and_evaluated_again(recipe, tmp_path, capsys):
    runs = [tmp_path / name for name in ("a", "b", "other")]
    for run, seed in zip(runs, (0, 0, 1), strict=True):
        train.main(["-c", str(recipe), f"run.dir={run}", f"run.seed={seed}"])
    capsys.readouterr()
    compare_runs.main(list(map(str, runs[:2])))
    assert "the same" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        compare_runs.main([str(runs[0]), str(runs[2])])
    assert "run.seed: 0 -> 1" in capsys.readouterr().out

    (before,) = (runs[0] / "evaluations").glob("*/summary.json")
    scores = json.loads(before.read_text())
    before.unlink()
    evaluate.main(["--run-dir", str(runs[0])])
    again = json.loads(before.read_text())
    assert scores.pop("images_per_second") > 0 and again.pop("images_per_second") > 0
    assert again == scores


def test_a_sweep_trains_and_scores_its_trials(recipe, tmp_path, start):
    space = ("optimizer.lr=0.001,0.002", "train.num_epochs=1", "run.num_threads=1")
    done = start("tools/sweep.py", "-c", recipe, *space, "--name", tmp_path / "sweep", fork=False, timeout=550)
    assert re.search(r"optimizer\.lr", done.stdout + done.stderr)
    with open(tmp_path / "sweep/results.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and all(row["status"] == "done" and 0 <= float(row["score"]) <= 1 for row in rows)
