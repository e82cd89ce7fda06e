"""The verdict on a run: its score, how it was measured, and on how many files."""

from dataclasses import dataclass
from typing import Any

from report.charts import number, percent
from report.curves import SCORES
from report.run_files import EvaluationFiles
from report.statistics import share_interval

LISTS = {"val": "validation list", "test": "test list"}
"""`on` in summary.json -> the name of the scored list."""
SETTINGS = ("weights", "list", "max_non_finite", "num_clips", "num_crops", "drawn_score", "slide", "save_predictions")
"""Settings of an evaluation in its summary.json, besides the scores."""
SCENE_SCORES = {
    "box_ap": ("average precision of boxes", ("box_ap50", "mask_ap", "mask_ap50", "box_ar100")),
    "mean_iou": ("mean IoU", ("mean_accuracy", "pixel_accuracy")),
}
"""Main score of detection or segmentation -> its name, and other scores to show beside it."""
MAX_NUMBERS = 4  # in the verdict of tasks other than classification


@dataclass(frozen=True)
class Verdict:
    """The result of an evaluation, as text."""

    score: str
    """The main score, such as "97.55 %"."""
    sentence: str
    """The meaning of the score, such as "of 163 videos classified correctly (top-1)"."""
    protocol: str
    facts: list[tuple[str, str]]
    """Further numbers, as (name, text)."""
    warnings: list[str]

    @property
    def headline(self) -> str:
        return f"{self.score} {self.sentence}"


def judge(evaluation: EvaluationFiles) -> Verdict:
    """The verdict on an evaluation, from its summary.json and the number of files per class."""
    summary, item = evaluation.summary, evaluation.item
    if item is not None and (main := next((name for name in SCENE_SCORES if name in summary), None)):
        return _judge_scenes(evaluation, item, main)
    name = next((name for name in SCORES if name in summary), None)
    if item is None or name is None:
        scores = [(key.replace("_", " "), number(value)) for key, value in numbers_of(summary).items()]
        first, *others = scores or [("no score", "-")]
        return Verdict(first[1], first[0], _protocol(evaluation), [*others[:MAX_NUMBERS], *_choice(summary)], [])
    scored = summary.get(f"{item}s_scored", summary[f"{item}s_read"])
    if name == "top1":
        sentence = f"of {scored:,} {item}s classified correctly (top-1)"
    else:
        sentence = f"mean average precision on {scored:,} {item}s"
    facts = [*_trust(evaluation, name, scored), *_other_scores(summary, item, name)]
    return Verdict(percent(summary[name]), sentence, _protocol(evaluation), facts, _warnings(summary, item))


def _judge_scenes(evaluation: EvaluationFiles, item: str, main: str) -> Verdict:
    """The verdict on a detector or segmentor, without scores of kinds of objects that do not occur."""
    summary, (words, others) = evaluation.summary, SCENE_SCORES[main]
    facts = [*_trust(evaluation, main, summary[f"{item}s_read"])]
    facts += [(_words(key), percent(summary[key])) for key in others if summary.get(key) is not None]
    sentence = f"{words} on {summary[f'{item}s_read']:,} {item}s"
    return Verdict(percent(summary[main]), sentence, _protocol(evaluation), facts, _warnings(summary, item))


def _words(key: str) -> str:
    """mask_ap50 -> mask AP50."""
    return key.replace("_ap", " AP").replace("_ar", " AR").replace("_", " ")


def numbers_of(summary: dict[str, Any]) -> dict[str, float]:
    """The numbers in a summary.json, without settings and speeds."""
    plain = {key: value for key, value in summary.items() if isinstance(value, int | float) or value is None}
    no_result = ("_per_second", "_per_forward")
    return {key: value for key, value in plain.items() if key not in SETTINGS and not key.endswith(no_result)}


def _protocol(evaluation: EvaluationFiles) -> str:
    summary, item = evaluation.summary, evaluation.item
    listed = f", {LISTS[summary['on']]}" if summary.get("on") in LISTS else ""
    if item and {"num_clips", "num_crops"} <= summary.keys():
        clips, crops = summary["num_clips"], summary["num_crops"]
        return f"{clips} clip{'s' * (clips != 1)} x {crops} crop{'s' * (crops != 1)} per {item}{listed}"
    return f"{evaluation.name}{listed}"


def _trust(evaluation: EvaluationFiles, name: str, scored: int) -> list[tuple[str, str]]:
    """Coverage and, for an accuracy, its interval and the score of guessing."""
    summary, item = evaluation.summary, evaluation.item
    read, listed = summary[f"{item}s_read"], summary[f"{item}s_listed"]
    facts = [*_choice(summary), ("coverage", f"{percent(read / max(1, listed))} ({read:,} of {listed:,} {item}s read)")]
    if name == "top1" and scored and summary[name] is not None:
        low, high = share_interval(summary[name], scored)
        facts.append(("95 % interval", f"{100 * low:.1f} to {100 * high:.1f} %"))
        largest = max((row.counts[0] for row in evaluation.classes), default=0)
        if largest:
            facts.append(("always guessing the largest class", percent(largest / scored)))
    return facts


def _choice(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What chose the checkpoint, if it is one of the run."""
    return [("checkpoint chosen by", summary["chosen_by"])] if "chosen_by" in summary else []


def _other_scores(summary: dict[str, Any], item: str, name: str) -> list[tuple[str, str]]:
    """The other scores, except repetitions of the main one."""
    shares = [key for key in summary if key.endswith(("_top1", "_top5", "mean_class_accuracy"))]
    kept = [key for key in shares if key != f"{item}_top1" or name != "top1"]
    facts = [(key.replace("_top", " top-").replace("_", " "), percent(summary[key])) for key in kept]
    return [*facts, ("loss", number(summary.get("loss")))]


def _warnings(summary: dict[str, Any], item: str) -> list[str]:
    warnings = []
    unread = summary[f"{item}s_listed"] - summary[f"{item}s_read"]
    if unread:
        warnings.append(f"{unread:,} of {summary[f'{item}s_listed']:,} {item}s could not be read and are not scored.")
    if bad := summary.get(f"{item}s_non_finite"):
        warnings.append(f"The network's outputs are NaN or infinite for {bad:,} {item}s, which count as wrong.")
    return warnings
