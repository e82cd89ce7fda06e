"""The training curves of one or more runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from report.charts import Chart, Curve, draw_chart

SCORES = ("mean_average_precision", "top1")
"""The first of these names that a run logs is its main score, a fraction in 0..1."""
SCENE_CURVES = {"box_ap": ("box_ap", "mask_ap"), "mean_iou": ("mean_iou", "pixel_accuracy")}
"""Main score of detection or segmentation -> the scores to draw; also fractions."""
SHARES = {*SCORES, *(name for names in SCENE_CURVES.values() for name in names)}
TITLES = {
    "mean_iou": "mean IoU", "box_ap": "average precision of boxes", "mask_ap": "average precision of masks",
    "top1": "top-1 accuracy", "samples_per_second": "training samples per second",
}  # fmt: skip
SPLITS = {"train": "training", "val": "validation", "val_ema": "validation, averaged weights"}
NOT_SCORES = ("step", "split", "epoch", "score", "loss", "learning_rate", "coverage")
MAX_SCORES = 2  # score charts of tasks other than classification

Rows = Sequence[Mapping[str, Any]]
"""Lines of metrics.jsonl."""


def draw_curves(runs: Mapping[str, Rows]) -> list[Chart]:
    """Charts of the loss, the scores, the learning rate and the speed of runs, by their names ("" if there is one)."""
    names = ["loss", *_score_names([row for rows in runs.values() for row in rows])]
    charts = [
        draw_chart(TITLES.get(name, name.replace("_", " ")), list(_curves(runs, name)), is_share=name in SHARES)
        for name in (*names, "learning_rate", "samples_per_second")
    ]
    return [chart for chart in charts if chart is not None]


def _curves(runs: Mapping[str, Rows], name: str):
    for number, (run, rows) in enumerate(runs.items()):
        for split, words in SPLITS.items():
            points = [(row["epoch"], row[name]) for row in rows if row["split"] == split and _is_number(row.get(name))]
            style = f"c{number % 6}" if run else {"train": "c0", "val": "c1", "val_ema": "c2"}[split]
            thin = " thin" * (split == "train") + " dashed" * (bool(run) and split == "val_ema")
            yield Curve(f"{run} {words}".strip(), style + thin, points)


def _score_names(rows: Rows) -> list[str]:
    """The scores to draw: for classification the main one, else those that the evaluations log."""
    logged = dict.fromkeys(key for row in rows if row["split"] != "train" for key in row)
    main = next((name for name in SCORES if name in logged), None)
    if main:
        return [main]
    if scene := next((name for name in SCENE_CURVES if name in logged), None):
        return [name for name in SCENE_CURVES[scene] if name in logged]
    return [name for name in logged if name not in NOT_SCORES and not name.endswith("_per_second")][:MAX_SCORES]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def best_rows(rows: Rows) -> list[dict[str, Any]]:
    """For each evaluation during training: epoch, step, split, loss and scores, for a table."""
    names = _score_names(rows)
    kept = [row for row in rows if row["split"] != "train"]
    return [{name: row.get(name) for name in ("epoch", "step", "split", "loss", *names)} for row in kept]
