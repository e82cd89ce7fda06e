"""Comparisons: lines of the table, repetitions, a kill that costs nothing, the files, and what networks cost."""

import csv
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image
from scene_recipes import RECIPES, make_scenes

from engine.signals import Stopped
from settings import SettingsError, write_yaml
from tools import compare
from tools.benchmarks.model import count_flops
from tools.common.final_report import Result
from tools.common.run_scores import CheckpointScore
from tools.comparisons.cost import network_cost
from tools.comparisons.entries import Entry, read_entries
from tools.comparisons.table import Line, markdown
from tools.sweeps import trials
from tools.sweeps.trials import Outcome

FAKE = f'''
"""Stands in for tools/train.py: a run whose scores follow from its settings."""
import json, os, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from safetensors.numpy import save_file
settings = dict(argument.split("=", 1) for argument in sys.argv[3:])
folder = Path(json.loads(settings["run.dir"]))
table = folder.parent.parent
with open(table / "started.txt", "a") as file:
    file.write(folder.parent.name + " " + folder.name + "\\n")
rate, seed = float(settings["optimizer.lr"]), int(settings["run.seed"])
if (rate, seed) == (0.2, 1) and (table / "kill").exists():
    (table / "kill").unlink()
    os.kill(os.getppid(), 15)
    sys.exit(75)
if rate == 0.5:
    print("error: the loss of step 3 is not finite", file=sys.stderr)
    sys.exit(2)
(folder / "checkpoints").mkdir(exist_ok=True)
best, last = 1 - rate + 0.1 * seed, 1 - rate
if rate == 0.3:  # nothing could be scored
    best = last = None
row = {{"step": 6, "split": "val", "epoch": 1.0, "score": best, "top1": best}}
(folder / "metrics.jsonl").write_text(json.dumps(row) + "\\n")
facts = {{"step": "6", "score": repr(best)}}
if best is not None:
    save_file({{"x": np.zeros(1, np.float32)}}, folder / "checkpoints/best.safetensors", facts)
def checkpoint(step, score):
    return {{"step": step, "averaged": False, "score": score, "summary": {{"loss": 1.0, "top1": score}}}}
on = settings.get("data.test") and "data.test" or "data.val"
result = {{"on": on, "source": "list.txt", "choice": "data.val, the best of 3 scores", "best": checkpoint(6, best),
          "last": [checkpoint(9, last)]}}
(folder / "result.json").write_text(json.dumps(result))
'''


@pytest.fixture
def run_compare(tmp_path, monkeypatch, recipe):
    """run_compare(*arguments) -> exit status, with a stand-in for training; results are in runs/comparisons/recipe."""
    (tmp_path / "train.py").write_text(FAKE)
    monkeypatch.setattr(trials, "TRAIN", tmp_path / "train.py")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            compare.main([str(recipe), *arguments])
        except SystemExit as end:
            return end.code
        return 0

    return run


def rows(path, *left_out):
    with open(path) as file:
        return [{key: value for key, value in row.items() if key not in left_out} for row in csv.DictReader(file)]


def untimed(folder):
    """The tables without what a clock decides."""
    times = ("minutes", "minutes_spread", "processor_minutes", "seconds", "processor_seconds")
    return [rows(folder / name, *times) for name in ("table.csv", "runs.csv")]


def test_a_killed_comparison_resumes_and_gives_the_same_table(run_compare, tmp_path):
    command = ("optimizer.lr=0.1,0.2", "--seeds", "2")
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    cut.mkdir()
    (cut / "kill").touch()
    with pytest.raises(Stopped, match="SIGTERM"):
        run_compare(*command, "--name", str(cut))
    assert [row["runs_done"] for row in rows(cut / "table.csv")] == ["2", "1"]
    assert run_compare(*command, "--name", str(cut)) == run_compare(*command, "--name", str(whole)) == 0
    assert untimed(cut) == untimed(whole)
    started = (cut / "started.txt").read_text().split("\n")[:-1]
    lines = [f"recipe,optimizer.lr={rate} seed={seed}" for seed in (0, 1) for rate in (0.1, 0.2)]
    assert started == [*lines, lines[-1]]  # each line once before any twice; only the broken run again
    assert run_compare(*command, "--name", str(whole)) == 0 and (whole / "started.txt").read_text().count("\n") == 4


@pytest.mark.slow
def test_means_and_spreads_and_what_ranks_them(run_compare, tmp_path):
    assert run_compare("optimizer.lr=0.1,0.2,0.5", "--seeds", "3") == 1
    folder = tmp_path / "runs/comparisons/recipe"
    first, second, failed = rows(folder / "table.csv")
    assert first["network"] == "recipe optimizer.lr=0.1" and first["list"] == "data.val"
    assert float(first["best"]) == pytest.approx(1.0) and float(first["best_spread"]) == pytest.approx(0.1)
    assert float(first["last"]) == pytest.approx(0.9) and float(second["last_spread"]) < 1e-9
    assert (failed["runs"], failed["runs_done"], failed["best"], failed["parameters"]) == ("3", "0", "", "")
    assert int(first["parameters"]) > 1000 and float(first["macs"]) > 1000 and float(first["processor_minutes"]) > 0
    text = (folder / "table.md").read_text()
    assert "| `recipe optimizer.lr=0.1` | 1.0000 ± 0.1000 | 0.9000 ± 0.0000 | 3 of 3 |" in text
    assert "0 of 3, 3 failed" in text and "a validation score, not a test" in text and "Score: top1" in text
    assert {row["reason"] for row in rows(folder / "runs.csv")} == {"", "the loss of step 3 is not finite"}
    with Image.open(folder / "plot.png") as image:
        assert min(image.size) > 400
    assert run_compare("optimizer.lr=0.1", "data.test=x", "--seeds", "1", "--name", "tested") == 0
    assert "on data.test (list.txt), which chose nothing" in (tmp_path / "runs/comparisons/tested/table.md").read_text()


def test_each_list_is_described_by_its_own_runs():
    score = CheckpointScore(4, False, 0.5)
    results = [Result("data.val", "a.txt", "nothing: the only score of the run", score, [score]),
               Result("data.val", "b.txt", "data.val, the best of 2 scores", score, [score])]  # fmt: skip
    entry = Entry("recipe", "recipe.yaml", [], Path("recipe"), [])
    text = "\n".join(markdown([Line(entry, [Outcome([], "done")], [result], None) for result in results]))
    assert "data.val (a.txt) once, after the last step: nothing was chosen" in text
    assert "data.val (b.txt), which chose the best checkpoint: a validation score" in text


def test_a_run_without_a_score_is_a_row_without_one(run_compare, tmp_path):
    assert run_compare("optimizer.lr=0.3,0.1", "--seeds", "1") == 0
    first, second = rows(tmp_path / "runs/comparisons/recipe/table.csv")
    assert (
        first["network"] == "recipe optimizer.lr=0.1" and second["best"] in ("", "nan") and second["runs_done"] == "1"
    )
    assert "1 of 1, 1 without a score" in (tmp_path / "runs/comparisons/recipe/table.md").read_text()


def test_a_training_that_a_killed_command_left_behind_is_waited_for(run_compare, tmp_path, caplog):
    folder = tmp_path / "runs/comparisons/recipe/recipe/seed=0"
    folder.mkdir(parents=True)
    code = "import fcntl, sys, time; fcntl.flock(f := open(sys.argv[1], 'w'), 2); print(flush=True); time.sleep(1)"
    with subprocess.Popen([sys.executable, "-c", code, folder / "lock"], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert run_compare("optimizer.lr=0.1", "--seeds", "1") == 0
        assert other.poll() is not None or other.wait(1) == 0
    with open(folder / "lock") as file:  # nobody holds it any more
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_lines_of_a_table(tmp_path):
    words = ["a/one.yaml", "b/one.yaml+model.options={x: 1+y}+optimizer.lr=1e+3", "optimizer.lr=0.1", "data.fold=0,1"]
    first, second = read_entries(words, 2, tmp_path)
    assert first.label == "a/one" and second.label == "b/one model.options={x: 1+y} optimizer.lr=1e+3"
    assert first.fixed == ["optimizer.lr=0.1"] and second.fixed == ["model.options={x: 1+y}", "optimizer.lr=1e+3"]
    assert [trial.overrides for trial in first.trials] == [
        [f"data.fold={fold}", f"run.seed={seed}"] for fold in (0, 1) for seed in (0, 1)
    ]
    several = read_entries(["one.yaml", "model.name=x,y"], 1, tmp_path)
    assert [entry.label for entry in several] == ["one model.name=x", "one model.name=y"]
    assert len({entry.folder for entry in several}) == 2
    seeded = read_entries(["one.yaml", "run.seed=7"], 3, tmp_path)[0]
    assert len(seeded.trials) == 1 and seeded.fixed == ["run.seed=7"]


def test_mistakes_stop_a_comparison_before_its_first_run(run_compare, tmp_path, recipe):
    for arguments, message in (
        (["optimizr.lr=0.1"], "optimizr: unknown setting; did you mean 'optimizer'"),
        (["run.dir=x"], "run.dir cannot be set for a comparison: --name names the folder"),
        ([str(recipe)], "recipe is given twice; each line of the table needs different settings"),
        (["gone.yaml"], r"gone\.yaml"),
        (["optimizer.lr=0..1"], "optimizer.lr is a range"),
    ):
        with pytest.raises(SettingsError, match=message):
            run_compare(*arguments)
    with pytest.raises(SettingsError, match="nothing to compare: name recipes, such as configs/demo"):
        compare.main(["optimizer.lr=0.1"])
    assert run_compare("--seeds", "0") == 2 and not (tmp_path / "runs").exists()


def test_the_cost_of_a_classification_is_that_of_a_view(recipe):
    cost = network_cost(str(recipe), [])
    import torch

    from models import create_model

    with torch.device("meta"):
        model = create_model("glore_resnet_debug_3d", num_classes=8)
    assert cost.num_macs == count_flops(model, (3, 4, 32, 32)) / 2
    assert cost.num_parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", RECIPES)
def test_the_cost_of_scenes_is_of_training_samples(tmp_path, name):
    path = tmp_path / "recipe.yaml"
    path.write_text(write_yaml(RECIPES[name](make_scenes(tmp_path / "set"))))
    small, large = (network_cost(str(path), [f"model.head_options.channels={channels}"]) for channels in (16, 32))
    assert large.num_macs > small.num_macs > 1e6 and large.num_parameters > small.num_parameters
