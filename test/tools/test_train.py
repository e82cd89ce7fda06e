"""Whole runs as a person starts them: killed, continued, on one process and on two."""

import json
import os
import signal
import subprocess

import pytest
import torch
from launching import ROOT, kill_training, shell_environment
from run_files import lines, weights

from evaluators import classification_report
from tasks.clip_classification import ClipClassification
from tools import train
from tools.common.errors import clear_errors


@pytest.mark.slow
@pytest.mark.parametrize("fork", [True, False])
def test_a_killed_run_resumes_bit_for_bit(recipe, tmp_path, start, fork):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    start("tools/train.py", "-c", recipe, f"run.dir={whole}", fork=fork)
    arguments = ["-c", recipe, f"run.dir={cut}", "data.num_workers=2"]  # the number of workers changes nothing
    kill_training(arguments, cut, num_lines=9)  # epoch 2 of 3 is steps 7 to 12
    assert len(lines(cut)) < 18
    assert not (cut / "evaluations").exists()
    output = start("tools/train.py", *arguments, fork=fork).stderr
    assert f"continuing {cut} after step" in output
    assert lines(cut) == lines(whole) and [line["step"] for line in lines(whole)] == list(range(1, 19))
    assert lines(cut, "val")[-1]["loss"] == lines(whole, "val")[-1]["loss"]
    ours, theirs = weights(cut), weights(whole)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(recipe, tmp_path, start):
    """With the same samples in each forward pass: 2 processes x 2 samples, or 1 process x 2 accumulated x 2 samples."""
    one, two = tmp_path / "one", tmp_path / "two"
    start("tools/train.py", "-c", recipe, f"run.dir={one}", "train.accumulation_steps=2")
    start("tools/train.py", "-c", recipe, f"run.dir={two}", processes=2, fork=False)
    for ours, theirs in zip(lines(one), lines(two), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4), ours["step"]
    for ours, theirs in zip(lines(one, "val"), lines(two, "val"), strict=True):  # of precise batch norm
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-3)
    reported = json.loads((two / "evaluations/1x1/summary.json").read_text())
    start("tools/evaluate.py", "--run-dir", two)  # both processes scored the same, final weights
    again = json.loads((two / "evaluations/1x1/summary.json").read_text())
    assert {**reported, "clips_per_second": 0} == {**again, "clips_per_second": 0}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_misspelt_setting_is_one_message_from_the_shell(recipe, processes):
    line = [ROOT / "run_local.sh", recipe, "optimizer.lrr=1"]
    environment = shell_environment(NUM_PROCESSES=str(processes))
    done = subprocess.run(line, env=environment, text=True, capture_output=True, timeout=100, cwd="/")
    assert done.returncode != 0 and done.stderr.count("did you mean 'lr'?") == 1, done.stderr
    assert processes == 2 or "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGUSR1", marks=pytest.mark.slow)])
@pytest.mark.parametrize("moment", ["making ready", "the final report"])
def test_a_signal_outside_the_steps_ends_with_75_and_the_same_command_goes_on(
    recipe, tmp_path, monkeypatch, capsys, name, moment
):
    arguments = ["-c", str(recipe), f"run.dir={tmp_path / 'run'}", "train.num_epochs=1", "data.num_workers=0"]
    making, writing = (ClipClassification, "check"), (classification_report, "plot_confusion")
    place, method = making if moment == "making ready" else writing
    original = getattr(place, method)

    def interrupted(*arguments):
        monkeypatch.setattr(place, method, original)
        signal.raise_signal(signal.Signals[name])
        return original(*arguments)

    monkeypatch.setattr(place, method, interrupted)
    with pytest.raises(SystemExit) as end:
        clear_errors(lambda: train.main(arguments))
    assert end.value.code == 75
    assert f"stopped by {name}; the run is saved, and the same command resumes it" in capsys.readouterr().err
    assert (tmp_path / "run/checkpoints/last.pt").exists() == (moment == "the final report")
    train.main(arguments)
    assert (tmp_path / "run/evaluations/1x1/confusion.png").exists()
    assert not (tmp_path / "run/evaluations/1x1/unfinished").exists()
    assert os.listdir(tmp_path / "run/evaluations") == ["1x1"]
