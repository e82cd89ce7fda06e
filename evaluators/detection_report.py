"""The files of a detection report.

predictions.json   the detections in COCO's format for results
per_class.csv      objects, detections, and average precision (AP and AP50) of each class
images.csv         objects and detections of each image
unreadable.csv     the images that could not be read, and why
precision.png      precision against recall at IoU .5, for each class, written last
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluators.confusion_plot import MAX_NAME, STYLE, one_line
from evaluators.detection import AveragePrecision, DetectionEvaluation
from evaluators.tables import write_csv

log = logging.getLogger(__name__)

MAX_CURVES = 20
"""Up to this many classes have their own curves; with more, only the mean is drawn."""


def write_report(folder: Path, evaluation: DetectionEvaluation) -> None:
    """Writes the report's files into `folder`. A plot that fails only logs a warning: the scores are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictions.json").write_text(json.dumps(evaluation.results), encoding="utf-8")
    kinds = list(evaluation.precisions)
    write_csv(
        folder / "per_class.csv",
        ("label", "class", "objects", "detections", *(f"{kind}_{name}" for kind in kinds for name in ("ap", "ap50"))),
        _class_rows(evaluation),
    )
    write_csv(folder / "images.csv", ("index", "id", "path", "objects", "detections"), _image_rows(evaluation))
    evaluation.write_unreadable(folder)
    path = folder / "precision.png"
    try:
        plot_precision(evaluation.precisions, evaluation.class_names, path)
    except Exception as error:
        log.warning("cannot draw %s: %s", path, error)


def _class_rows(evaluation: DetectionEvaluation) -> Iterator[tuple]:
    found = Counter(result["category_id"] for result in evaluation.results)
    truth = evaluation.ground_truth
    objects = Counter(one["category_id"] for one in truth["annotations"] if not one["iscrowd"])
    for label, (category, name) in enumerate(zip(truth["categories"], evaluation.class_names, strict=True)):
        kinds = evaluation.precisions.values()
        shares = (share for kind in kinds for share in (kind.per_class[label], kind.per_class50[label]))
        number = category["id"]
        yield label, name, objects[number], found[number], *("" if np.isnan(x) else f"{x:.6f}" for x in shares)


def _image_rows(evaluation: DetectionEvaluation) -> Iterator[tuple]:
    found = Counter(result["image_id"] for result in evaluation.results)
    objects = Counter(one["image_id"] for one in evaluation.ground_truth["annotations"] if not one["iscrowd"])
    for index in evaluation.gathered.rows["index"].tolist() if evaluation.gathered.rows else ():
        number = evaluation.image_ids[index]
        yield index, *evaluation.items[index], objects[number], found[number]


def plot_precision(precisions: Mapping[str, AveragePrecision], class_names: Sequence[str], path: Path) -> None:
    """Plots precision against recall at IoU .5: a panel for each kind, a curve for each class and for their mean."""
    import matplotlib  # imported here: it takes a second, and only reports need it
    from matplotlib.figure import Figure

    recall = np.linspace(0, 1, 101)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7 * len(precisions), 6), layout="constrained")
        panels = figure.subplots(1, len(precisions), squeeze=False)[0]
        for axes, (kind, precision) in zip(panels, precisions.items(), strict=True):
            curves, known = precision.precision50, ~np.isnan(precision.precision50[0])
            if len(class_names) <= MAX_CURVES:
                for label in np.flatnonzero(known):
                    name = f"{one_line(class_names[label], MAX_NAME)}: {curves[:, label].mean():.3f}"
                    axes.plot(recall, curves[:, label], linewidth=1.5, label=name)
            if known.any():
                mean = curves[:, known].mean(axis=1)
                axes.plot(recall, mean, color="black", linewidth=2.5, label=f"mean: {mean.mean():.3f}")
            axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03))
            axes.set_title(f"{kind}es, IoU at least 0.5" if kind == "box" else f"{kind}s, IoU at least 0.5", loc="left")
            axes.grid(color="#dddddd", linewidth=0.8)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(title="average precision", loc="lower left", fontsize=10)
        figure.savefig(path, dpi=120)
