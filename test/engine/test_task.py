"""The contract of a task: with only the abstract members it trains, resumes after a kill, is scored and reported."""

import inspect
import json

import pytest
import safetensors
import torch
from launching import run_script
from regression import NUM_VAL, Regression
from run_files import lines

from engine.distributed import Ranks
from engine.task import Predicts, Shows, Task, TaskSettings, failures_of, rows_of
from settings import SettingsError, parse_settings
from tasks import TASKS
from tools import predict, show_data
from tools.common.errors import clear_errors

RECIPE = """
    task: regression
    optimizer: {lr: 0.05}
    schedule: {warmup_steps: 2}
    train: {num_epochs: 3, batch_size: 6, checkpoint_every_steps: 4, log_every_steps: 1}
    run: {device: cpu, num_threads: 1}
"""
STOP_AT_9 = {"STOP_AT": "9"}


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def run(*arguments, **options):
    return run_script("test/regression.py", *arguments, **options)


def summary(folder, name="val"):
    facts = json.loads((folder / "evaluations" / name / "summary.json").read_text())
    return {name: value for name, value in facts.items() if name != "weights"}


def test_a_task_needs_only_the_abstract_members():
    abstract = {"num_train_samples", "build_model", "train_batches", "training_step", "evaluate"}
    assert Task.__abstractmethods__ == abstract
    own = {name for name, value in vars(Regression).items() if not name.startswith("_")}
    assert own == abstract | {"Settings"}
    assert not issubclass(Regression, Predicts) and not issubclass(Regression, Shows)
    assert all(inspect.getdoc(member) for name, member in vars(Task).items() if callable(member) and name[0] != "_")


@pytest.mark.slow
def test_it_trains_resumes_after_a_kill_and_scores_the_same_on_one_and_two_ranks(recipe, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = run("train", "-c", recipe, f"run.dir={whole}")
    assert "step 15 of 15: mean_squared_error" in done.stderr and "tools/evaluate.py" in done.stderr
    assert run("train", "-c", recipe, f"run.dir={killed}", check=False, environment=STOP_AT_9).returncode == -9
    assert "continuing" in run("train", "-c", recipe, f"run.dir={killed}").stderr
    ends = [torch.load(folder / "checkpoints/last.pt", weights_only=True)["model"] for folder in (whole, killed)]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    for split in ("train", "val"):
        assert lines(whole, split) == lines(killed, split)

    # All scores are negative, and the best one is kept.
    scores = [row["score"] for row in lines(whole, "val")]
    with safetensors.safe_open(whole / "checkpoints/best.safetensors", "pt") as file:
        assert float(file.metadata()["score"]) == max(scores) < 0
    assert (whole / "curves.png").stat().st_size > 10_000

    on_one_rank = summary(whole)
    chosen = {"chosen_by": "data.val, the best of 3 scores"}
    assert on_one_rank == {"mean_squared_error": -max(scores), "count": NUM_VAL, **chosen}
    run("evaluate", "--run-dir", whole, processes=2)
    assert summary(whole) == on_one_rank
    run("evaluate", "--run-dir", whole, "--checkpoint", "last")
    last = {"mean_squared_error": -scores[-1], "count": NUM_VAL, "chosen_by": "nothing: the last step"}
    assert summary(whole, "val-last") == last


@pytest.mark.parametrize(
    ("main", "message"),
    [
        (lambda r: predict.main(["-c", r, "x.mp4"]), "the task regression cannot predict on your own files"),
        (lambda r: show_data.main([r]), "the task regression cannot show its samples"),
    ],
)
def test_tools_report_what_a_task_cannot_do(recipe, main, message, capsys, monkeypatch):
    monkeypatch.setitem(TASKS, "regression", Regression)
    with pytest.raises(SystemExit) as end:
        clear_errors(lambda: main(str(recipe)))
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_a_task_without_samples_is_rejected():
    class Empty(Regression):
        num_train_samples = 0

    settings = parse_settings(
        TaskSettings, {"task": "empty", "optimizer": {"lr": 1}, "train": {"num_epochs": 1, "batch_size": 1}}
    )
    with pytest.raises(SettingsError, match="the task empty has no training samples"):
        Empty(settings, Ranks(0, 1, torch.device("cpu"))).check()


def test_batches_may_have_any_type():
    failures = [{"path": "a", "reason": "b", "index": 0, "sample": 0}]
    batch = {"index": torch.tensor([3, 1]), "failures": failures}
    assert (rows_of(batch), failures_of(batch)) == ([3, 1], failures)
    for other in ([torch.zeros(2)], (torch.zeros(2), 1), torch.zeros(2), {"x": 1}):
        assert (rows_of(other), failures_of(other)) == ([], [])


@pytest.mark.slow
def test_two_ranks_end_early_together(recipe, tmp_path):
    """With a rate that changes nothing, all scores are equal: none is a gain after the first."""
    patience = ("optimizer.lr=1e-30", "train.stop_after_evaluations_without_gain=2", "train.num_epochs=9")
    done = run("train", "-c", recipe, f"run.dir={tmp_path / 'run'}", *patience, processes=2)
    assert "ending after step 15 of 45: 2 evaluations without gain" in done.stderr
    assert [line["step"] for line in lines(tmp_path / "run", "val")] == [5, 10, 15]
    assert lines(tmp_path / "run", "train")[-1]["step"] == 15
    assert "evaluated as val" in done.stderr  # the report at the end
