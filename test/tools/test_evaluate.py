"""Evaluation and prediction as a person starts them, on one process and on several."""

import csv
import json
import shutil
from functools import partial

import pytest
import safetensors.torch
import torch
from conftest import write_recipe
from run_files import lines

from evaluators.resumable_predictions import ResumablePredictions
from tasks import classification
from tools import evaluate, predict, train
from tools.common.errors import clear_errors


@pytest.fixture(scope="module")
def run(motion_videos, tmp_path_factory, start):
    """A run directory whose validation set has 9 videos, one of them broken."""
    folder = tmp_path_factory.mktemp("evaluate")
    videos = shutil.copytree(motion_videos, folder / "videos")
    broken = sorted(videos.glob("val/*/*.mp4"))[4]
    broken.write_bytes(broken.read_bytes()[:300])
    recipe = write_recipe(folder / "recipe.yaml", videos)
    settings = (f"run.dir={folder / 'run'}", "train.num_epochs=1", "train.ema_decay=0.5", "data.num_workers=0")
    start("tools/train.py", "-c", recipe, *settings)
    return folder / "run"


def files_of(report):
    summary = json.loads((report / "summary.json").read_text())
    assert summary.pop("clips_per_second") > 0
    return summary, {path.name: path.read_bytes() for path in report.glob("*.csv")}


def test_training_ends_with_a_report(run):
    summary, files = files_of(run / "evaluations/1x1")
    assert (summary["videos_read"], summary["videos_listed"], summary["clips_per_video"]) == (8, 9, 1)
    assert summary["clip_top1"] == summary["video_top1"]
    unreadable = list(csv.DictReader(files["unreadable.csv"].decode().splitlines()))
    assert len(unreadable) == 1 and unreadable[0]["reason"]
    predictions = list(csv.DictReader(files["predictions.csv"].decode().splitlines()))
    assert len(predictions) == 8 and unreadable[0]["index"] not in {row["index"] for row in predictions}
    right = [row["class"] == row["guess1"] for row in predictions]
    assert sum(right) / len(right) == summary["video_top1"]
    confusion = list(csv.reader(files["confusion.csv"].decode().splitlines()))
    assert sum(int(count) for row in confusion[1:] for count in row[1:]) == 8
    assert confusion[0][1:] == [row[0] for row in confusion[1:]] and "turn_clockwise" in confusion[0]
    assert (run / "evaluations/1x1/confusion.png").stat().st_size > 5000


def test_weights_and_their_average_are_scored_as_in_training(run):
    for split, options, report in (("val", [], "1x1-last"), ("val_ema", ["--average"], "1x1-last-average")):
        evaluate.main(["--run-dir", str(run), "--checkpoint", "last", *options])
        summary = json.loads((run / "evaluations" / report / "summary.json").read_text())
        logged = lines(run, split)[0]
        assert (summary["clip_top1"], summary["loss"]) == (logged["clip_top1"], logged["loss"])


@pytest.mark.parametrize(
    ("script", "views", "processes"),
    [
        pytest.param("test/test-single-clip.py", "1x1", 2, marks=pytest.mark.slow),
        pytest.param("test/test-multi-clip.py", "10x3", 2, marks=pytest.mark.slow),
        pytest.param("test/test-single-clip.py", "1x1", 3, marks=pytest.mark.slow),
        pytest.param("test/test-multi-clip.py", "10x3", 3, marks=pytest.mark.slow),
    ],
)
def test_more_processes_write_the_files_of_one(run, start, script, views, processes):
    output = start(script, "--run-dir", run).stderr
    assert "88.89 %  (8 of 9 videos read" in output
    one = files_of(run / "evaluations" / views)
    shutil.rmtree(run / "evaluations" / views)
    start(script, "--run-dir", run, processes=processes)
    assert files_of(run / "evaluations" / views) == one
    assert one[0]["clips_per_video"] == {"1x1": 1, "10x3": 30}[views]


def test_a_report_on_another_list_leaves_the_runs_own(run, tmp_path):
    before = files_of(run / "evaluations/1x1")
    lines = (run.parent / "videos/val.txt").read_text().splitlines(keepends=True)
    (tmp_path / "few videos.txt").write_text("".join(lines[:3]))
    options = [f"data.val={tmp_path}/few videos.txt", "--run-dir", str(run), f"data.val_root={run.parent}/videos"]
    evaluate.main(options)
    summary, _ = files_of(run / "evaluations/1x1-few_videos")
    assert summary["videos_listed"] == 3 and summary["list"] == f"{tmp_path}/few videos.txt"
    evaluate.main(["--run-dir", str(run), "evaluation.max_non_finite=1"])
    after = files_of(run / "evaluations/1x1")
    assert {**after[0], "max_non_finite": 0.01} == before[0] and after[1] == before[1]


def test_an_interrupted_evaluation_resumes(run, monkeypatch, capsys):
    """Of nine videos in batches of 4, 4 and 1, the batch with the broken video is tried again."""
    arguments = ["--run-dir", str(run), "--checkpoint", "last", "run.num_threads=1"]
    evaluate.main(arguments)
    whole = files_of(run / "evaluations/1x1-last")
    shutil.rmtree(run / "evaluations/1x1-last")
    monkeypatch.setattr("tasks.loops.ResumablePredictions", partial(ResumablePredictions, seconds_between=0))
    score, batches = classification.score_views, []

    def killed_at_the_third(index, *arguments, **options):
        batches.append(index.tolist())
        if len(batches) == 3:
            raise KeyboardInterrupt
        return score(index, *arguments, **options)

    monkeypatch.setattr(classification, "score_views", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        evaluate.main(arguments)
    evaluate.main(arguments)
    assert sum(map(len, batches[:3])) == 8
    assert batches[3:] == [batch for batch in batches[:2] if len(batch) < 4] + batches[2:3]
    assert "resuming an interrupted evaluation: 4 of 9 videos are done" in capsys.readouterr().err
    assert files_of(run / "evaluations/1x1-last") == whole
    assert not (run / "evaluations/1x1-last/unfinished").exists()


@pytest.fixture(scope="module")
def overflowing(run):
    """A file of finite weights whose outputs overflow."""
    weights = safetensors.torch.load_file(run / "checkpoints/best.safetensors")
    weights["classifier.weight"] = torch.full_like(weights["classifier.weight"], 3e38)
    safetensors.torch.save_file(weights, run.parent / "overflowing.safetensors")
    return run.parent / "overflowing.safetensors"


@pytest.mark.parametrize(
    ("script", "processes"),
    [
        pytest.param("tools/evaluate.py", 1, marks=pytest.mark.slow),
        pytest.param("test/test-multi-clip.py", 1, marks=pytest.mark.slow),
        pytest.param("test/test-single-clip.py", 2, marks=pytest.mark.slow),
    ],
)
def test_outputs_that_are_not_finite_end_with_an_error_after_the_report(run, start, overflowing, script, processes):
    views = ("evaluation.num_clips=2", "evaluation.num_crops=1")
    done = start(script, "--run-dir", run, "--checkpoint", overflowing, *views, processes=processes, check=False)
    assert done.returncode == (2 if processes == 1 else 1)  # torchrun has its own
    message = "the score is NaN (0.00 % top-1, 0.00 % top-5 on 8 of 9 videos; NaN or infinite outputs for 8 of 8, more"
    assert done.stderr.count(f"error: {overflowing}: {message}") == 1, done.stderr
    report = run / "evaluations/2x1-overflowing"
    summary, files = files_of(report)
    assert summary["video_top1"] == summary["mean_class_accuracy"] == 0 and summary["videos_non_finite"] == 8
    assert summary["loss"] is None and not (report / "unfinished").exists()
    assert {row["guess1"] for row in csv.DictReader(files["predictions.csv"].decode().splitlines())} == {""}


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (evaluate.main, ["--run-dir", "RUN", "--checkpoint", "gone.pth"], "gone.pth: there is no such file"),
        (evaluate.main, ["--run-dir", "RUN", "model.name=resnet_debug_3d"], "best.safetensors: does not fit"),
        (evaluate.main, ["--run-dir", "RUN/run"], "RUN/run is not a run directory: there is no such folder"),
        (evaluate.main, ["-c", "RECIPE", "run.dir=RUN/run"], "RUN/run has no checkpoint; train first"),
        (train.main, ["-c", "RECIPE", "data.val=RUN/vall.txt", "run.dir=RUN/new"], "data.val: no list of videos at"),
        (evaluate.main, ["--run-dir", "RUN", "data.vall=x"], "data.vall: unknown setting; did you mean 'val'?"),
        (predict.main, ["--run-dir", "RUN", "gone.mp4"], "no file or folder of videos at gone.mp4"),
        (train.main, ["-c", "configs/demo/glore_moton.yaml"], "did you mean 'configs/demo/glore_motion.yaml'?"),
        (train.main, ["-c", "RECIPE", "optimizer.lr=0.1", "run.dir=RUN"], "optimizer.lr: 0.05 -> 0.1"),
        (train.main, ["-c", "RECIPE", "run.device=cuda", "run.dir=RUN"], "no usable GPU; use run.device=cpu or auto"),
    ],
)
def test_errors_are_one_message_without_a_traceback(run, main, arguments, message, capsys):
    if "cuda" in str(arguments) and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")

    def fill(text):
        return text.replace("RUN", str(run)).replace("RECIPE", str(run.parent / "recipe.yaml"))

    with pytest.raises(SystemExit) as end:
        clear_errors(lambda: main([fill(argument) for argument in arguments]))
    assert end.value.code == 2 and fill(message) in capsys.readouterr().err
