"""Run directories without training: files as a run writes them, of classes and predictions that are made up."""

import json
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from faster_coco_eval import mask as mask_utils
from PIL import Image

from datasets.file_list import FileList
from engine.run import report_evaluation
from evaluators.classification import Naming, evaluate_predictions, predictions_from, score_views
from evaluators.detection import DetectionEvaluation
from evaluators.detection import rows_of_images as object_rows
from evaluators.gather import Gathered
from evaluators.multi_label import evaluate_multi_label, score_multi_label_views
from evaluators.segmentation import SegmentationEvaluation
from evaluators.segmentation import rows_of_images as pixel_rows

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


def make_scene_run(folder: Path, class_names: list[str], task: str, with_masks: bool = True) -> Path:
    """A run of segmentation or detection: half of class 1 is taken for class 0, or every other object is found."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(f"task: {task}\n")
    write_metrics(folder / "metrics.jsonl", ("mean_iou", "pixel_accuracy") if task == "segmentation" else ("box_ap",))
    scored = _made_pixels(class_names) if task == "segmentation" else _made_objects(class_names, with_masks)
    report = folder / "evaluations/whole"
    plots = ("evaluators.segmentation_report.plot_confusion", "evaluators.detection_report.plot_precision")
    with mock.patch(plots[0]), mock.patch(plots[1]):  # they take seconds
        report_evaluation(report, "a made run", {"weights": "best.safetensors", "list": "val"}, scored)
    Image.new("RGB", (900, 300), "navy").save(report / "predictions.png")
    return folder


def _made_pixels(class_names: list[str]) -> SegmentationEvaluation:
    """Class 2 is nowhere; class 1 is wrong in every second pixel."""
    labels = torch.zeros(8, 8, dtype=torch.int64)
    labels[:, 4:] = 1
    predicted = labels.clone()
    predicted[:, 4:6] = 0
    rows = pixel_rows(torch.tensor([0]), [labels], [predicted], len(class_names))
    return SegmentationEvaluation(Gathered(rows, [], 1, 1.0), class_names, [("0", "/gone/0.png")], 0.0)


def _made_objects(class_names: list[str], with_masks: bool) -> DetectionEvaluation:
    """An object of each class but the last, of which every second one is found to the pixel."""
    boxes = torch.tensor([[10.0 * n, 0, 10 * n + 8, 8] for n in range(len(class_names) - 1)])
    masks = [np.zeros((8, 10 * len(boxes)), np.uint8) for _ in boxes]
    for number, mask in enumerate(masks):
        mask[:, 10 * number : 10 * number + 8] = 1
    rles = [mask_utils.encode(np.asfortranarray(mask))["counts"] for mask in masks]
    truth = {
        "images": [{"id": 7, "height": 8, "width": masks[0].shape[1], "file_name": "0.png"}],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(class_names)],
        "annotations": [
            {"id": n + 1, "image_id": 7, "category_id": n + 1, "bbox": [10.0 * n, 0, 8, 8], "area": 64.0, "iscrowd": 0,
             "segmentation": {"size": list(masks[0].shape), "counts": rle.decode()}}
            for n, rle in enumerate(rles)
        ],
    }  # fmt: skip
    found = SimpleNamespace(
        boxes=boxes[::2], scores=torch.linspace(0.9, 0.5, len(boxes[::2])), labels=torch.arange(0, len(boxes), 2),
        rles=rles[::2] if with_masks else None,
    )  # fmt: skip
    rows = object_rows(torch.tensor([0]), [found]) | {"finite": np.ones(1, dtype=bool)}
    items, sizes = [("7", "/gone/0.png")], [masks[0].shape]
    return DetectionEvaluation(Gathered(rows, [], 1, 1.0), truth, class_names, items, [7], sizes, 0.0)


def write_metrics(path: Path, scores: tuple[str, ...] = ("top1",)) -> None:
    rows = []
    for epoch in range(1, 5):
        common = {"step": 10 * epoch, "epoch": float(epoch), "loss": 1 / epoch, **dict.fromkeys(scores, epoch / 5)}
        rows.append({**common, "split": "train", "learning_rate": 0.1 / epoch, "samples_per_second": 7.0})
        rows.append({**common, "split": "val", "score": epoch / 5})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 50, "sp')
