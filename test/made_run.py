"""Run directories without training: files as a run writes them, of classes and predictions that are made up."""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from datasets.file_list import FileList
from engine.run import report_evaluation
from evaluators.classification import Naming, evaluate_predictions, predictions_from, score_views
from evaluators.gather import Gathered
from evaluators.multi_label import evaluate_multi_label, score_multi_label_views

FAILURE = {"index": 1, "path": "/gone/caf\udce9/<i>.mp4", "reason": "no frame <b>at all</b>"}


def make_run(
    folder: Path,
    class_names: list[str],
    num_items: int,
    *,
    paths: list[str] | None = None,
    item: str = "video",
    skill: float = 2.0,
    seed: int = 0,
    multi_label: bool = False,
    recipe: str = "task: clip_classification\nmodel: {name: glore_resnet_debug_3d}\n",
    evaluation: str = "1x1",
) -> Path:
    """A run whose logits are random, plus `skill` for the true class. Item 1 cannot be read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(recipe)
    (folder / "environment.json").write_text(json.dumps([{"started": str(seed), "commit": "c0ffee", "packages": {}}]))
    (folder / "failures.jsonl").write_text(json.dumps(FAILURE) + "\n" + '{"path": "cut off')
    write_metrics(folder / "metrics.jsonl")
    rng, num_classes = np.random.default_rng(seed), len(class_names)
    labels = np.arange(num_items) % num_classes
    sets = [(int(label), int((label + 1) % num_classes)) for label in labels] if multi_label else labels.tolist()
    files = FileList([f"id{i}" for i in range(num_items)], sets, [f"{i}.mp4" for i in range(num_items)], class_names)
    logits = rng.normal(size=(num_items, 1, num_classes))
    logits[np.arange(num_items), 0, labels] += skill
    read = np.array([i for i in range(num_items) if i != FAILURE["index"]])
    columns = (torch.from_numpy(read), torch.from_numpy(labels[read]), torch.from_numpy(logits[read]))
    targets = files.targets(read, num_classes)
    rows = score_multi_label_views(*columns, lambda _: targets) if multi_label else score_views(*columns)
    gathered = Gathered(rows=rows, failures=[FAILURE], num_items=num_items, seconds=1.0, num_kept=0)
    predictions = predictions_from(gathered, 1, num_classes)
    naming = Naming(item, "clip", class_names, lambda i: (f"id{i}", paths[i % len(paths)] if paths else f"/gone/{i}"))
    scored = evaluate_multi_label(predictions, targets, naming) if multi_label else evaluate_predictions(
        predictions, naming, 0.01
    )  # fmt: skip
    facts = {"weights": "best.safetensors", "list": "val.txt", "num_clips": 1, "num_crops": 1}
    with mock.patch("evaluators.classification_report.plot_confusion"):  # takes seconds
        report_evaluation(folder / "evaluations" / evaluation, "a made run", facts, scored)
    return folder


def write_metrics(path: Path, scores: tuple[str, ...] = ("top1",)) -> None:
    rows = []
    for epoch in range(1, 5):
        common = {"step": 10 * epoch, "epoch": float(epoch), "loss": 1 / epoch, **dict.fromkeys(scores, epoch / 5)}
        rows.append({**common, "split": "train", "learning_rate": 0.1 / epoch, "samples_per_second": 7.0})
        rows.append({**common, "split": "val", "score": epoch / 5})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 50, "sp')
