"""Two runs are the same, or the tool says where they differ."""

import json
from types import SimpleNamespace

import pytest
import torch
import yaml

from engine.distributed import Ranks
from engine.environment import read_environments
from engine.run import RunSettings, open_run
from settings import SettingsError
from tools.compare_runs import compare, main


@pytest.fixture
def runs(tmp_path):
    """Two runs that differ only in their speed."""
    for name, speed in (("a", 1.0), ("b", 2.0)):
        settings = SimpleNamespace(run=RunSettings(dir=str(tmp_path / name), seed=3))
        recipe = {"optimizer": {"lr": 0.1}, "run": settings.run.model_dump()}
        run = open_run("x.yaml", settings, recipe, Ranks(0, 1, torch.device("cpu")))
        for step in range(1, 6):
            run.log(step, "train", {"loss": 1 / step, "samples_per_second": speed})
        run.log(5, "val", {"video_top1": 0.5, "clips_per_second": speed})
        report = tmp_path / name / "evaluations/1x1"
        report.mkdir(parents=True)
        (report / "summary.json").write_text(json.dumps({"weights": name, "video_top1": 0.5}))
    return tmp_path / "a", tmp_path / "b"


def test_equal_runs(runs, capsys):
    main([str(run) for run in runs])
    assert "the same" in capsys.readouterr().out


def test_where_they_differ(runs, capsys):
    a, b = runs
    lines = (b / "metrics.jsonl").read_text().splitlines()
    lines[2] = json.dumps({"step": 3, "split": "train", "loss": 0.5})
    (b / "metrics.jsonl").write_text("\n".join(lines[:-2]) + "\n")
    recipe = yaml.safe_load((b / "recipe.yaml").read_text())
    recipe["optimizer"]["lr"] = 0.2
    (b / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (starts,) = read_environments(b / "environment.json")
    (b / "environment.json").write_text(json.dumps([starts, starts | {"num_ranks": 2}]))
    (b / "evaluations/1x1/summary.json").write_text(json.dumps({"video_top1": 0.25}))
    found = dict(compare(a, b))
    assert found == {
        "recipe": ["optimizer.lr: 0.1 -> 0.2"],
        "environment": ["starts: 1 -> 2; comparing the last of each", "num_ranks: 1 -> 2"],
        "train lines of metrics.jsonl": [
            "steps: 5 -> 4 lines; the first without a match is at step 5",
            "first at step 3: loss: 0.333333333 -> 0.5",
            "largest: loss by 33.3 % at step 3",
        ],
        "val lines of metrics.jsonl": ["steps: 1 -> 0 lines; the first without a match is at step 5"],
        "evaluation 1x1": ["video_top1: 0.5 -> 0.25"],
    }
    with pytest.raises(SystemExit) as end:
        main([str(a), str(b)])
    assert end.value.code == 1 and "optimizer.lr: 0.1 -> 0.2" in capsys.readouterr().out
    with pytest.raises(SettingsError, match="is not a run directory"):
        list(compare(a, b / "evaluations"))


def test_the_environment_of_a_run(runs):
    (start,) = read_environments(runs[0] / "environment.json")
    assert start["seed"] == 3 and start["num_ranks"] == 1 and start["packages"]["torch"] == torch.__version__
    assert len(start["commit"] or "0" * 40) == 40 and "cores" in start["ranks"][0]["device"]
