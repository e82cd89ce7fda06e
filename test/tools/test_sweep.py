"""Sweeps: the trials of a command, a crash that costs one row, continuing, the table, the CSV and the page."""

import csv
import json
import re

import numpy as np
import pytest

from engine.signals import Stopped
from settings import SettingsError
from tools import sweep
from tools.sweeps import trials
from tools.sweeps.space import draw, grid, read_space, split_values

FAKE = '''
"""Stands in for tools/train.py: leaves the files of a run whose score follows from its settings."""
import json, os, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
settings = dict(argument.split("=", 1) for argument in sys.argv[3:])
folder = Path(json.loads(settings["run.dir"]))
with open(folder.parent / "started.txt", "a") as file:
    file.write(folder.name + "\\n")
rate, seed = float(settings["optimizer.lr"]), float(settings.get("run.seed", 0))
if rate == 0.5 and not (folder.parent / "repaired").exists():
    print("error: the loss of step 3 is not finite", file=sys.stderr)
    sys.exit(2)
if rate == 0.25 and not (folder.parent / "continued").exists():
    os.kill(os.getppid(), 15)
    sys.exit(75)
if rate == 0.35 and not (folder.parent / "continued").exists():
    sys.exit(75)
if rate == 0.75:
    os.kill(os.getpid(), 9)
(folder / "checkpoints").mkdir(exist_ok=True)
score = 1 - rate + 0.1 * seed
row = {"step": 6, "split": "val", "epoch": 1.0, "score": score, "loss": rate}
(folder / "metrics.jsonl").write_text(json.dumps({"step": 6, "split": "train", "loss": 9}) + "\\n" + json.dumps(row))
facts = {"step": "6", "score": repr(score)}
if (count := folder.parent / "count").exists():
    facts["fingerprint"] = json.dumps({"training": {"training files": [int(count.read_text()), "ab"]}})
save_file({"x": np.zeros(1, np.float32)}, folder / "checkpoints/best.safetensors", facts)
'''


@pytest.fixture
def run_sweep(tmp_path, monkeypatch, recipe):
    """run_sweep(*arguments) -> exit status, with a stand-in for training; results are in runs/sweeps/recipe."""
    (tmp_path / "train.py").write_text(FAKE)
    monkeypatch.setattr(trials, "TRAIN", tmp_path / "train.py")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            sweep.main(["-c", str(recipe), *arguments])
        except SystemExit as end:
            return end.code
        return 0

    return run


def rows(folder):
    with open(folder / "results.csv") as file:
        return list(csv.DictReader(file))


def test_values_and_ranges():
    fixed, axes = read_space(["a=1", "b=1,[2,3],'x,y'", "c=0.1..10:log", "d=../x", "e=0..1", "f=3..9:int"])
    assert fixed == ["a=1", "d=../x"] and [axis.key for axis in axes] == ["b", "c", "e", "f"]
    assert axes[0].values == ("1", "[2,3]", "'x,y'") and [axis.scale for axis in axes[1:]] == ["log", "uniform", "int"]
    assert read_space(["a=0,false"])[1][0].values == ("0", "false")
    assert split_values("{a: 1, b: 2}") == ["{a: 1, b: 2}"]
    for wrong, message in (
        ("a=1..2:exp", "no scale is called 'exp'"),
        ("a=2..1", "from a smaller to a larger"),
        ("a=0..1:log", "starts above 0"),
        ("a=0..1.5:int", "whole numbers"),
        ("a=1,,2", "empty value"),
        ("a=1e-3,2,0.001", "a has the value 0.001 twice"),
        ("a", "form key=value"),
    ):
        with pytest.raises(SettingsError, match=message):
            read_space([wrong])
    with pytest.raises(SettingsError, match="a is given twice"):
        read_space(["a=1", "a=2,3"])


def test_a_grid_has_every_combination_and_random_trials_are_draws():
    _, axes = read_space(["x.lr=1,2", "y.lr=3,4", "z=a/b,c"])
    assert [trial.values["z"] for trial in grid(axes)] == ["a/b", "c"] * 4
    names = [trial.name for trial in grid(axes)]
    assert len(set(names)) == 8 and names[1] == "x.lr=1,y.lr=3,z=c" and all("/" not in name for name in names)

    _, axes = read_space(["lr=1e-4..1e-1:log", "n=1..3:int", "run.seed=0,1"])
    few, many = draw(axes, 4, seed=0), draw(axes, 30, seed=0)
    assert many[:8] == few and draw(axes, 4, seed=1) != few
    assert [trial.values["run.seed"] for trial in few] == ["0", "1"] * 4  # each draw with each seed
    rates = np.log10([float(trial.values["lr"]) for trial in many])
    assert -4 <= rates.min() < -3.5 and -1.5 < rates.max() <= -1
    assert {trial.values["n"] for trial in many} == {"1", "2", "3"}
    with pytest.raises(SettingsError, match="add --random N"):
        grid(axes)
    with pytest.raises(SettingsError, match="found only 3 different trials"):
        draw(read_space(["n=1..3:int"])[1], 4, seed=0)
    with pytest.raises(SettingsError, match=r"run\.seed repeats every trial and is not drawn; list its values"):
        draw(read_space(["lr=0.1..0.2", "run.seed=0..5:int"])[1], 4, seed=0)


def test_a_crash_costs_one_row_and_the_same_command_continues(run_sweep, tmp_path, capsys):
    folder = tmp_path / "runs/sweeps/recipe"
    command = ("optimizer.lr=0.1,0.5,0.75,0.25,0.2", "train.num_epochs=1")
    with pytest.raises(Stopped, match="SIGTERM"):
        run_sweep(*command)
    assert [row["status"] for row in rows(folder)] == ["done", "failed", "failed", "waiting", "waiting"]
    (folder / "continued").touch()
    assert run_sweep(*command) == 1
    found = rows(folder)
    assert [row["status"] for row in found] == ["done", "failed", "failed", "done", "done"]
    assert found[1]["reason"] == "the loss of step 3 is not finite" and found[2]["reason"] == "killed by signal 9"
    assert (found[0]["score"], found[0]["step"], found[0]["loss"]) == ("0.9", "6", "0.1")
    started = (folder / "started.txt").read_text().split()
    assert started == [f"lr={rate}" for rate in ("0.1", "0.5", "0.75", "0.25", "0.25", "0.2")]

    (folder / "repaired").touch()
    assert run_sweep(*command, "--retry") == 1
    assert [row["status"] for row in rows(folder)] == ["done", "done", "failed", "done", "done"]
    assert run_sweep("optimizer.lr=0.1,0.3", "train.num_epochs=1") == 0  # another value joins
    with pytest.raises(SettingsError, match=r"trial of another command \(.*train\.num_epochs=1.*choose another --name"):
        run_sweep("optimizer.lr=0.1,0.3", "train.num_epochs=2")


def test_a_signal_to_the_training_alone_stops_the_sweep(run_sweep, tmp_path):
    folder = tmp_path / "runs/sweeps/recipe"
    with pytest.raises(Stopped, match=r"a signal to the training in .*lr=0\.35"):
        run_sweep("optimizer.lr=0.1,0.35,0.2")
    (folder / "continued").touch()
    assert run_sweep("optimizer.lr=0.1,0.35,0.2") == 0


def test_an_edited_recipe_is_another_sweep(run_sweep, recipe):
    assert run_sweep("optimizer.lr=0.1,0.2") == 0
    text = recipe.read_text()
    recipe.write_text(text + "\n        # a comment changes nothing\n")
    assert run_sweep("optimizer.lr=0.1,0.2") == 0
    recipe.write_text(text.replace("num_epochs: ", "num_epochs: 1"))
    with pytest.raises(
        SettingsError, match=r"recipe\.yaml as it was before an edit \(train\.num_epochs\); choose another --name$"
    ):
        run_sweep("optimizer.lr=0.1,0.2,0.3")


def test_trials_before_and_after_a_change_of_their_data_are_not_compared(run_sweep, tmp_path, capfd):
    folder = tmp_path / "runs/sweeps/recipe"
    folder.mkdir(parents=True)
    (folder / "count").write_text("48")
    assert run_sweep("optimizer.lr=0.1,0.2") == 0 and "data settings" not in capfd.readouterr().err
    (folder / "count").write_text("40")
    assert run_sweep("optimizer.lr=0.1,0.2,0.3") == 0
    told = capfd.readouterr().err
    assert "lr=0.3 and lr=0.1 have the same data settings" in told and "lr=0.2 and" not in told
    assert "(training files: 48 before, 40 now, where before is lr=0.1): their scores cannot be compared" in told
    assert run_sweep("optimizer.lr=0.1", "run.seed=0,1") == 0 and "data settings" not in capfd.readouterr().err


def test_a_failed_trial_is_retried_by_a_mended_recipe(run_sweep, recipe, tmp_path):
    command = ("optimizer.lr=0.5", "train.batch_size=2,4")
    assert run_sweep(*command) == 1
    recipe.write_text(recipe.read_text().replace("num_epochs: ", "num_epochs: 1"))
    with pytest.raises(SettingsError, match=r"choose another --name; --retry runs it again"):
        run_sweep(*command)
    (tmp_path / "train.py").write_text("pass")
    assert run_sweep(*command, "--retry") == 0


def test_a_recipe_edited_during_a_sweep_stops_it(run_sweep, recipe, tmp_path):
    text = recipe.read_text()
    (tmp_path / "train.py").write_text(
        f"from pathlib import Path; Path({str(recipe)!r}).write_text({text.replace('num_epochs: ', 'num_epochs: 1')!r})"
    )
    with pytest.raises(SettingsError, match=r"edited \(train\.num_epochs\) since this command began; undo that"):
        run_sweep("optimizer.lr=0.1,0.2")
    recipe.write_text(text)
    (tmp_path / "train.py").write_text("pass")
    assert run_sweep("optimizer.lr=0.1,0.2") == 0


def test_a_trial_that_fails_again_says_why_this_time(run_sweep, tmp_path):
    folder = tmp_path / "runs/sweeps/recipe"
    assert run_sweep("optimizer.lr=0.5,0.1") == 1 and rows(folder)[0]["reason"] == "the loss of step 3 is not finite"
    (tmp_path / "train.py").write_text("import os; print('half way'); os._exit(7)")
    assert run_sweep("optimizer.lr=0.5,0.1", "--retry") == 1
    assert rows(folder)[0]["reason"] == "ended with status 7: half way"


@pytest.mark.slow
def test_scores_are_averaged_over_folds_and_seeds(run_sweep, tmp_path, capsys):
    assert run_sweep("optimizer.lr=0.1,0.2", "run.seed=0,1,2", "--name", "seeds") == 0
    assert "optimizer.lr=0.1: score 1.0000 ± 0.1000 (mean ± standard deviation of 3 trials)" in capsys.readouterr().err
    page = (tmp_path / "runs/sweeps/seeds/index.html").read_text()
    assert page.count("<circle") == 12 and page.count("<svg") == 2 and "Averages over folds and seeds" in page
    assert not re.search(r"(src|href)=|url\(|@import", page)  # loads nothing


def test_mistakes_stop_a_sweep_before_its_first_trial(run_sweep, tmp_path):
    for arguments, message in (
        (["optimizr.lr=0.1,0.2"], "optimizr: unknown setting; did you mean 'optimizer'"),
        (["optimizer.lr=0.1,-1"], r"optimizer\.lr"),
        (["optimizer.lr=0.1"], "nothing to compare"),
        (["optimizer.lr=0.1,0.2", "run.dir=x"], "run.dir cannot be set for a sweep"),
        (["data.folds=3", "data.fold=0,1,2"], r"set data\.val=null"),
    ):
        with pytest.raises(SettingsError, match=message):
            run_sweep(*arguments)
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written(run_sweep, tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(SettingsError, match=r"cannot write runs/sweeps/recipe: .*choose another --name"):
        run_sweep("optimizer.lr=0.1,0.2")


@pytest.mark.slow
def test_cross_validation_with_real_runs(recipe, tmp_path, start):
    """Two folds of one list, in processes of their own; each trial is a run like any other."""
    folds = ("data.val=null", "data.folds=2", "data.fold=0,1", "train.num_epochs=1", "run.num_threads=1")
    done = start("tools/sweep.py", "-c", recipe, *folds, "--name", tmp_path / "sweep", fork=False, timeout=550)
    assert re.search(r"score 0\.\d{4} ± 0\.\d{4} \(mean ± standard deviation of 2 trials\)", done.stderr)
    listed = set()
    for fold in range(2):
        run = tmp_path / f"sweep/fold={fold}"
        (report,) = run.glob("evaluations/*")
        assert report.name == f"1x1-fold{fold}of2"
        assert json.loads((report / "summary.json").read_text())["videos_listed"] == 12
        with open(report / "predictions.csv") as file:
            listed |= {row["id"] for row in csv.DictReader(file)}
    assert len(listed) == 24
