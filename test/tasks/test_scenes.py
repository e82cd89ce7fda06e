"""Detection and segmentation with every family: exact resume, equal scores on ranks and after breaks, predictions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from run_files import lines
from scene_recipes import BACKBONES, RECIPES, make_scenes, make_task
from simulated_runs import TwoRanks, train_whole_and_broken, without_plots

from detectors import HEADS as DETECTORS
from detectors import SPATIAL as NECKS
from detectors import small_options
from engine.distributed import Ranks
from engine.non_finite import NotFinite
from engine.run import report_evaluation
from engine.task import ResumeFolder
from evaluators import resumable_predictions
from inference.trained import load_trained
from report.run_files import EvaluationFiles
from report.verdict import judge
from segmentors import HEADS as SEGMENTORS
from settings import write_yaml
from tasks import find_task
from tools import train

QUICK = {("detection", "timm/test_resnet"), ("segmentation", "hornet_debug_7x7")}
EVERY = [
    pytest.param(task, backbone, marks=[] if (task, backbone) in QUICK else [pytest.mark.slow])
    for task in RECIPES
    for backbone in BACKBONES
]


@pytest.fixture(scope="module", autouse=True)
def quick_runs() -> Iterator[None]:
    with without_plots():
        yield


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("scenes") / "set")


def columns(evaluation: Any) -> dict[str, Any]:
    """The rows that an evaluation scored, to compare them by the byte."""
    return {
        name: [np.asarray(value).tobytes() for value in column] for name, column in evaluation.gathered.rows.items()
    }


def assert_same_scores(ours: Any, theirs: Any) -> None:
    assert columns(ours) == columns(theirs)
    summaries = [evaluation.summary() for evaluation in (ours, theirs)]
    for summary in summaries:
        assert summary.pop("images_per_second") >= 0
    np.testing.assert_equal(*summaries)


@pytest.mark.parametrize(("name", "backbone"), EVERY)
def test_every_family_trains_resumes_evaluates_and_predicts(name, backbone, scenes, tmp_path):
    """At odd sizes; the run that is broken off after its checkpoint at step 2 ends as the other, to the last bit."""
    whole, broken = train_whole_and_broken(find_task({"task": name}, ""), RECIPES[name](scenes, backbone), tmp_path)
    assert len(lines(whole, "train")) == 4 and len(lines(whole, "val")) == 1
    for split in ("train", "val"):
        assert lines(broken, split) == lines(whole, split)

    task, model, _ = load_trained(whole)
    one = task.evaluate(model)
    np.testing.assert_equal(one.score, lines(whole, "val")[0]["score"])
    for rank in (1, 0):
        task.ranks = TwoRanks(rank, 2, torch.device("cpu"))
        two = task.evaluate(model)
    assert_same_scores(two, one)

    Image.fromarray(np.random.RandomState(0).randint(0, 255, (71, 39, 3), np.uint8)).save(tmp_path / "odd.png")
    task.ranks = Ranks(0, 1, torch.device("cpu"))
    (seen,) = task.see(model, task.find_inputs([str(tmp_path / "odd.png")]))
    assert not seen.failure
    picture = task.draw(torch.zeros(3, 71, 39, dtype=torch.uint8), seen.outputs)
    assert picture.shape == (3, 71, 39) and picture.dtype == torch.uint8


def small_detector(head: str) -> dict[str, Any]:
    options = small_options(head) | {"channels": 16, "score_threshold": 0.0}
    return options | ({} if head == "retinanet" else {"fc_channels": 16})


HEADS = [
    *(("segmentation", {"model__head": head}) for head in SEGMENTORS),
    *(
        ("detection", {"model__head": head, "model__neck": neck, "model__head_options": small_detector(head)})
        for head, neck in [*((head, "fpn") for head in DETECTORS), *(("faster_rcnn", neck) for neck in NECKS)]
    ),
]


@pytest.mark.parametrize(("name", "changes"), HEADS)
def test_every_head_and_neck_learns_and_is_scored_by_its_name(name, changes, scenes):
    torch.manual_seed(0)
    task = make_task(RECIPES[name](scenes), **changes)
    task.check()
    model = task.build_model()
    (batch,) = task.train_batches(0, 1, 3, "train")
    loss, logged = task.training_step(model, batch)
    loss.backward()
    parts = [value for part, value in logged.items() if part.startswith("loss_")]
    assert loss.isfinite() and (not parts or torch.allclose(torch.stack(parts).sum(), 3 * loss))
    learned = (parameter for parameter in model.parameters() if parameter.requires_grad)
    assert all(parameter.grad is not None for parameter in learned)  # distributed training waits for all
    summary = task.evaluate(model.eval()).summary()
    assert summary["images_read"] == 5 and summary["images_non_finite"] == 0
    has_masks = name == "detection" and changes["model__head"] in ("mask_rcnn", "cascade_mask_rcnn")
    assert ("mask_ap" in summary) == has_masks


@pytest.mark.parametrize("name", RECIPES)
def test_an_interrupted_evaluation_continues_to_the_same_numbers(name, scenes, tmp_path, monkeypatch):
    """With one image per batch, broken off in the third of five."""
    task = make_task(RECIPES[name](scenes), evaluation__images_per_forward=1)
    if name == "segmentation":
        task = make_task(RECIPES[name](scenes), evaluation={"images_per_forward": 1, "save_predictions": True})
    torch.manual_seed(0)
    model = task.build_model().eval()
    whole = task.evaluate(model)
    monkeypatch.setattr(resumable_predictions.ResumablePredictions.__init__, "__defaults__", (0,))
    outputs_of, calls = type(task).outputs_of, []

    def broken(self, model, batch):
        calls.append(batch["index"].tolist())
        if len(calls) == 3:
            raise KeyboardInterrupt
        return outputs_of(self, model, batch)

    folder = ResumeFolder(tmp_path / "rows", {"weights": "these"})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(task), "outputs_of", broken)
        task.evaluate_resumably(model, folder)
    calls.clear()
    monkeypatch.setattr(type(task), "outputs_of", lambda *arguments: calls.append(1) or outputs_of(*arguments))
    resumed = task.evaluate_resumably(model, folder)
    assert len(calls) == 3 and resumed.gathered.num_kept == 2
    assert_same_scores(resumed, whole)


@pytest.mark.parametrize("name", RECIPES)
def test_images_of_one_size_give_the_same_alone_and_together(name, scenes):
    torch.manual_seed(0)
    tasks = [make_task(RECIPES[name](scenes), evaluation__images_per_forward=number) for number in (1, 5)]
    model = tasks[0].build_model().eval().double()
    found = []
    for task in tasks:
        task.network_input = lambda *arguments, task=task, **options: (
            type(task).network_input(task, *arguments, **options).double()
        )
        found.append([seen.outputs for seen in task.see(model, task.find_inputs([str(scenes / "images/val")]))])
    for alone, together in zip(*found, strict=True):
        if name == "segmentation":
            torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(together.labels, alone.labels) and together.rles == alone.rles
            torch.testing.assert_close(together.boxes, alone.boxes)
            torch.testing.assert_close(together.scores, alone.scores)


@pytest.mark.parametrize("name", RECIPES)
def test_images_with_nan_outputs_count_as_wrong_and_too_many_have_no_score(name, scenes, monkeypatch):
    torch.manual_seed(0)
    changes = {"evaluation__images_per_forward": 1, "evaluation__max_non_finite": 0.3}
    task = make_task(RECIPES[name](scenes), **changes)
    model = task.build_model().eval()
    network_input, calls = type(task).network_input, []

    def damaged(self, images, **options):
        calls.append(images)
        return network_input(self, images, **options) * (float("nan") if len(calls) <= num_bad else 1.0)

    monkeypatch.setattr(type(task), "network_input", damaged)
    num_bad = 1
    evaluation = task.evaluate(model)
    assert evaluation.summary()["images_non_finite"] == 1 and evaluation.score == evaluation.score
    calls.clear()
    num_bad = 2
    evaluation = task.evaluate(model)
    assert evaluation.summary()["images_non_finite"] == 2 and np.isnan(evaluation.score)
    calls.clear()
    answers = list(task.answer(model, task.find_inputs([str(scenes / "images/val")]), 3))
    assert [bool(answer.failure) for answer in answers] == [True, True, False, False, False]
    assert "NaN" in answers[0].failure and answers[0].guesses == []


@pytest.mark.parametrize(
    ("name", "entry", "part"),
    [
        ("segmentation", "decode_head.conv_seg.bias", "loss_decode"),
        ("segmentation", "auxiliary_head.conv_seg.bias", "loss_auxiliary"),
        ("detection", "rpn_head.rpn_cls.bias", "loss_rpn_cls"),
        ("detection", "roi_head.bbox_head.fc_reg.bias", "loss_bbox"),
        ("detection", "roi_head.mask_head.conv_logits.bias", "loss_mask"),
    ],
)
def test_a_nan_in_one_head_stops_the_run_and_the_head_is_named(name, entry, part, scenes, tmp_path, monkeypatch):
    task_class = find_task({"task": name}, "")
    build = task_class.build_model

    def damaged(task):
        model = build(task)
        with torch.no_grad():
            model.get_parameter(entry).fill_(float("nan"))
        return model

    monkeypatch.setattr(task_class, "build_model", damaged)
    (tmp_path / "recipe.yaml").write_text(write_yaml(RECIPES[name](scenes)))
    with pytest.raises(NotFinite, match=rf"the loss \({part}\) of step 1 is not finite \(.*3 samples, rows of the"):
        train.main(["-c", str(tmp_path / "recipe.yaml"), f"run.dir={tmp_path / 'run'}"])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("detection", "average precision of boxes on 5 images"), ("segmentation", "mean IoU on 5 im")],
)
def test_the_verdict_of_a_report_is_the_main_score(name, sentence, scenes, tmp_path):
    task = make_task(RECIPES[name](scenes))
    evaluation = task.evaluate(task.build_model().eval())
    report_evaluation(tmp_path, "a test", {"weights": "a.pt", **task.report_facts()}, evaluation)
    verdict = judge(EvaluationFiles(tmp_path))
    assert verdict.sentence.startswith(sentence) and verdict.score == f"{100 * evaluation.score:.2f} %"
    facts = dict(verdict.facts)
    assert facts["coverage"].startswith("100.00 %") and len(facts) >= 3 and "drawn score" not in facts


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_train_and_write_the_same_report_as_one(name, scenes, tmp_path, start):
    (tmp_path / "recipe.yaml").write_text(write_yaml(RECIPES[name](scenes)))
    run = tmp_path / "run"
    start("tools/train.py", "-c", tmp_path / "recipe.yaml", f"run.dir={run}", "train.batch_size=6", processes=2)
    reports = []
    for processes in (1, 2):
        for path in run.glob("evaluations/*/*"):
            path.unlink()
        start("tools/evaluate.py", "--run-dir", run, processes=processes)
        (report,) = run.glob("evaluations/*")
        summary = json.loads((report / "summary.json").read_text())
        assert summary.pop("images_per_second") > 0 and summary["images_read"] == 5
        files = {path.name: path.read_bytes() for path in report.iterdir() if path.suffix in (".csv", ".json")}
        del files["summary.json"]
        reports.append((summary, files))
    assert reports[0] == reports[1] and len(reports[0][1]) >= 3
