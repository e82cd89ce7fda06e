"""The run directory: located, resumed, never mixed up with another run."""

import json
import os
import re

import pytest
import torch
import yaml

from engine.distributed import Ranks
from engine.environment import LAUNCHER, is_restart
from engine.run import Run, RunSettings, newest_run, open_run, run_folder
from engine.task import TaskSettings
from settings import Settings, SettingsError

ALONE = Ranks(0, 1, torch.device("cpu"))
RECIPE = {"optimizer": {"lr": 0.1}, "data": {"num_workers": 1}, "run": {"seed": 0, "dir": None}}


class DataSettings(Settings):
    CHANGEABLE = ("num_workers",)
    num_workers: int = 1


class RecipeSettings(TaskSettings):
    data: DataSettings = DataSettings()


def settings_for(**run):
    return RecipeSettings(task="x", optimizer={"lr": 0.1}, train={"num_epochs": 1, "batch_size": 1}, run=run)


def test_a_run_directory_is_named_after_its_recipe(tmp_path):
    assert str(run_folder("configs/demo/glore_motion.yaml", RunSettings())) == "runs/demo/glore_motion"
    assert str(run_folder(tmp_path / "mine.yaml", RunSettings())) == "runs/mine"
    assert run_folder("configs/x.yaml", RunSettings(dir=str(tmp_path))) == tmp_path


def test_a_run_resumes_only_with_the_same_settings(tmp_path):
    settings = settings_for(dir=str(tmp_path / "run"))
    untrained = RECIPE | {"optimizer": {"lr": "a typo"}}
    open_run("x.yaml", settings, untrained, ALONE)  # no checkpoint yet, so its settings may still change
    run = open_run("x.yaml", settings, RECIPE, ALONE)
    run.checkpoints.write(1, {"step": 1})
    assert yaml.safe_load((run.folder / "recipe.yaml").read_text()) == RECIPE
    changeable = RECIPE | {"data": {"num_workers": 4}, "run": {"seed": 0, "dir": "elsewhere"}}
    assert open_run("x.yaml", settings, changeable, ALONE).folder == run.folder
    for changed, message in (
        ({"optimizer": {"lr": 0.2}}, r"optimizer\.lr: 0\.1 -> 0\.2\n.*run\.resume=false"),
        ({"run": {"seed": 1, "dir": None}}, r"run\.seed: 0 -> 1"),
    ):
        with pytest.raises(SettingsError, match=message):
            open_run("x.yaml", settings, RECIPE | changed, ALONE)
    no_resume = settings_for(dir=str(tmp_path / "run"), resume=False)
    names = [open_run("x.yaml", no_resume, RECIPE | {"optimizer": {"lr": lr}}, ALONE).folder.name for lr in (1, 2)]
    assert names == ["run-2", "run-3"]


def test_a_restart_continues_what_its_launcher_began(tmp_path, monkeypatch):
    """Also with run.resume=false: torchrun starts the same command again."""
    settings = settings_for(dir=str(tmp_path / "run"), resume=False)

    def name(launcher, restarts, has_name=False):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restarts))
        if has_name:
            monkeypatch.setenv(LAUNCHER, str(launcher))
        else:
            monkeypatch.setattr("os.getppid", lambda: launcher)
        return open_run("x.yaml", settings, RECIPE, ALONE).folder.name

    assert [name(1, 0), name(1, 1), name(1, 2)] == ["run", "run", "run"]
    assert [name(2, 0), name(3, 0), name(2, 1), name(3, 1)] == ["run-2", "run-3", "run-2", "run-3"]
    assert name(4, 1) == "run-4"  # it died before it had a directory
    assert name(4, 0) == "run-5"  # another process of that number
    # a machine that was lost elsewhere restarts the others without counting
    assert [name("one", 0, True), name("two", 0, True), name("one", 0, True)] == ["run-6", "run-7", "run-6"]


def test_one_launcher_of_several_machines_makes_a_restart():
    def start(launchers, restarted_by):
        launch = {"launchers": launchers, "restarted_by": restarted_by, "slurm_job": None, "slurm_restarts": 0}
        return {"launch": launch}

    before = start(["a", "b"], ["a", "b"])
    assert is_restart(start(["b", "c"], ["b"]), before) and not is_restart(start(["b", "c"], ["c"]), before)
    assert not is_restart(before, {}) and not is_restart(before, {"launch": "host, process 3"})


def test_commands_of_a_requeued_job_continue_their_own_runs(tmp_path, monkeypatch):
    settings = settings_for(dir=str(tmp_path / "run"), resume=False)

    def start(job, restarts, seed):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
        return open_run("x.yaml", settings, RECIPE | {"run": {"seed": seed, "dir": None}}, ALONE).folder.name

    assert [start("7", 0, seed) for seed in (0, 1, 1)] == ["run", "run-2", "run-3"]
    assert start("8", 0, 0) == "run-4"
    for restarts in (1, 2):
        assert [start("7", restarts, seed) for seed in (0, 1, 1, 2)][:3] == ["run", "run-2", "run-3"]
    assert start("7", 2, 1) == "run-6"  # the same command once more in this job


def test_metrics_logged_after_the_checkpoint_are_dropped(tmp_path):
    run = Run(tmp_path, ALONE)
    for step in (1, 2, 3):
        run.log(step, "train", {"loss": 1 / step})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "spl')  # the process died during a write
    again = Run(tmp_path, ALONE)
    again.start_at(2, 2)
    again.log(3, "train", {"loss": 0.25})
    again.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 1), (2, 0.5), (3, 0.25)]
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_failure_is_listed_once_per_run(tmp_path):
    failure = {"path": "a.mp4", "reason": "broken", "index": 3}
    for _ in range(2):  # the second time as a resumed run
        Run(tmp_path, ALONE).record_failures([failure, failure, {**failure, "path": "b.mp4"}])
    paths = [json.loads(line)["path"] for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert paths == ["a.mp4", "b.mp4"]


def test_only_the_main_rank_writes_metrics(tmp_path):
    other = Run(tmp_path, Ranks(1, 2, torch.device("cpu")))
    other.start_at(0, 0)
    other.log(1, "train", {"loss": 1.0})
    other.write_files({"notes.txt": "a"})
    other.plot({"loss": "loss"})
    assert list(tmp_path.iterdir()) == []


def test_the_newest_run_is_the_one_with_the_newest_weights(tmp_path):
    with pytest.raises(SettingsError, match=r"no trained run below .*; train one with \./run_local\.sh"):
        newest_run(tmp_path)
    for age, name in enumerate(("demo/a", "b", "kinetics/c")):
        weights = tmp_path / name / "checkpoints" / ("last.pt" if age else "best.safetensors")
        weights.parent.mkdir(parents=True)
        weights.touch()
        os.utime(weights, (1000 - age, 1000 - age))
    assert newest_run(tmp_path) == tmp_path / "demo/a"


def test_plots_and_tensorboard_cost_no_numbers(tmp_path, monkeypatch, caplog):
    def no_space(*_):
        raise OSError(28, "No space left on device")

    run = Run(tmp_path, ALONE)
    run.start_at(0, 0)
    monkeypatch.setattr("engine.run.plot_curves", no_space)
    monkeypatch.setattr(run._board, "add_scalar", no_space)
    for step in (1, 2):
        run.log(step, "train", {"loss": 1.0})
    run.plot({"loss": "loss"})
    run.close()
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    curves, board = "cannot draw .*curves.png: .*No space left", "cannot write .*tensorboard any more: .*No space left"
    assert [len(re.findall(pattern, caplog.text)) for pattern in (curves, board)] == [1, 1]


def test_tensorboard_takes_any_tag(tmp_path, caplog):
    run = Run(tmp_path, ALONE)
    run.start_at(0, 0)
    run.log(1, "val", {"from_$5 to /$9//": 1.0, "\u732b": float("nan"), "": float("inf")})
    run.close()
    assert "any more" not in caplog.text
