"""The figure at the top of the README: videos of a demo run with predictions, training curves and confusions."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datasets.video import VideoReader
from evaluators.confusion_plot import PLAIN_TEXT
from report.run_files import EvaluationFiles, Item, RunFiles
from report.thumbnails import find_file
from settings import SettingsError

BLUE, ORANGE, INK, QUIET, LINE = "#0072b2", "#d55e00", "#1a1d21", "#5b6570", "#e3e7ec"
NUM_FRAMES = 6
FRAME_STEP = 5  # frames between those shown
ASPECT = 1.0  # of the frames shown, width by height
STYLE = {
    **PLAIN_TEXT,
    "font.size": 11,
    "text.color": INK,
    **dict.fromkeys(("axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), QUIET),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
}


def draw_demo(run: RunFiles, path: Path) -> None:
    """Draws the figure of `run` to the file `path`. Raises SettingsError if the run has no evaluation of videos."""
    import matplotlib
    from matplotlib.figure import Figure

    evaluation = run.find_evaluation(None)
    if evaluation is None or evaluation.item != "video" or not run.metrics:
        raise SettingsError(f"{run.folder} has no training curves or no evaluation of videos; train the demo first")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(15, 9.3))
        summary, names = evaluation.summary, [row.name for row in evaluation.classes]
        title = f"{len(names)} motions, {100 * summary['top1']:.1f} % right on {summary['videos_scored']} new videos"
        figure.text(0.022, 0.955, title, fontsize=21, fontweight="bold", va="center")
        subtitle = "The class is the motion of the shapes: no single frame gives it away."
        figure.text(0.022, 0.915, subtitle, fontsize=12.5, color=QUIET, va="center")
        _draw_videos(figure, run, evaluation, names)
        _draw_curves(figure.add_axes((0.625, 0.665, 0.155, 0.2)), run, "loss", "loss")
        _draw_curves(figure.add_axes((0.832, 0.665, 0.155, 0.2)), run, "top1", "accuracy")
        _draw_confusion(figure.add_axes((0.715, 0.04, 0.225, 0.43)), evaluation, names)
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=120, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _draw_videos(figure: Any, run: RunFiles, evaluation: EvaluationFiles, names: Sequence[str]) -> None:
    """A row for each class: its name, frames of its first video, and the network's prediction."""
    first: dict[str, Item] = {}
    for item in evaluation.items:
        if item.classes and item.guesses:
            first.setdefault(item.classes[0], item)
    top, height = 0.885, 0.87 / len(names)
    for row, name in enumerate(name for name in names if name in first):
        item, bottom = first[name], top - (row + 1) * height
        figure.text(0.022, bottom + 0.5 * height, name.replace("_", "\n"), fontsize=11.5, va="center", linespacing=1.1)
        axes = figure.add_axes((0.118, bottom + 0.04 * height, 0.385, 0.92 * height))
        axes.imshow(_strip(find_file(item.path, run.places)), aspect="auto", interpolation="bilinear")
        axes.set_axis_off()
        guess, probability = item.guesses[0]
        color = BLUE if item.is_right else ORANGE
        words = guess.replace("_", "\n")
        figure.text(0.512, bottom + 0.52 * height, words, fontsize=10, color=color, linespacing=1.1, va="bottom")
        bar = figure.add_axes((0.512, bottom + 0.34 * height, 0.062, 0.009))
        bar.barh([0, 0], [1, probability], color=[LINE, color], height=1)
        bar.set(xlim=(0, 1), ylim=(-0.5, 0.5))
        bar.set_axis_off()
        figure.text(0.512, bottom + 0.1 * height, f"{100 * probability:.1f} %", fontsize=10, color=QUIET)


def _strip(path: str) -> np.ndarray:
    """Frames of a video side by side, with white gaps -> uint8 [H, W, 3]."""
    with VideoReader(path) as video:
        frames = video.get_frames([min(FRAME_STEP * n, video.num_frames - 1) for n in range(NUM_FRAMES)]).numpy()
    height, width = frames.shape[1:3]
    height, width = (height, round(height * ASPECT)) if width > height * ASPECT else (round(width / ASPECT), width)
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    gap = np.full((height, max(1, width // 28), 3), 255, np.uint8)
    parts = [part for frame in frames for part in (frame[top : top + height, left : left + width], gap)]
    return np.concatenate(parts[:-1], axis=1)


def _draw_curves(axes: Any, run: RunFiles, name: str, title: str) -> None:
    for split, color, marker, words in (("train", BLUE, None, "training"), ("val", ORANGE, "o", "validation")):
        points = [
            (row["epoch"], row[name]) for row in run.metrics if row["split"] == split and row.get(name) is not None
        ]
        axes.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=6, markerfacecolor="white",
                  markeredgewidth=1.8, linewidth=1.8, label=words, clip_on=False)  # fmt: skip
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK)
    axes.set_xlabel("epoch")
    axes.set_xlim(0, None)
    axes.set_ylim(0, 1 if name == "top1" else None)
    if name == "top1":
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.grid(color=LINE)
    axes.legend(frameon=False, fontsize=10)


def _draw_confusion(axes: Any, evaluation: EvaluationFiles, names: Sequence[str]) -> None:
    counts = np.zeros((len(names), len(names)), int)
    for pair, count in evaluation.confusion[1].items():
        counts[pair] = count
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    wrong = 1 - np.eye(len(names))
    for values, colors in ((shares * (1 - wrong), "Blues"), (shares * wrong, "Oranges")):
        axes.imshow(np.ma.masked_equal(values, 0), cmap=colors, vmin=-0.15, vmax=1.15, aspect="auto")
    for row, column in np.argwhere(counts):
        color = "white" if shares[row, column] > 0.5 else INK
        axes.text(column, row, counts[row, column], ha="center", va="center", color=color, fontsize=11.5)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=LINE)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.xaxis.tick_top()
    words = [name.replace("_", " ") for name in names]
    axes.set_xticks(range(len(names)), words, rotation=60, ha="left", rotation_mode="anchor", fontsize=10.5)
    axes.set_yticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=10.5)
    axes.set_xlabel("columns: predicted, rows: true", fontsize=10.5, loc="right")
