"""The scores that a run logged while it trained: which checkpoint its validation list chose, and out of how many."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.checkpoint import read_fact
from engine.json_io import read_json_lines

POSITION = ("step", "split", "epoch", "score")
"""What a line of metrics.jsonl has besides the evaluation's scores."""


@dataclass(frozen=True)
class CheckpointScore:
    """The score of a checkpoint on some list."""

    step: int
    averaged: bool
    """Whether it is for the moving average of the weights."""
    score: float
    """As `engine.task.Evaluation.score`."""
    summary: dict[str, float] = field(default_factory=dict)
    """All scores of the evaluation."""


@dataclass(frozen=True)
class RunScores:
    """The validation scores of a run."""

    best: CheckpointScore | None
    """The score of `best.safetensors`; None if nothing could be scored."""
    last: list[CheckpointScore]
    """Scores after the last step: of the weights and, if the run has one, of their average."""
    count: int
    """How many scores the best was chosen from."""

    @property
    def choice(self) -> str:
        """What chose the best checkpoint."""
        return f"data.val, the best of {self.count} scores" if self.count > 1 else "nothing: the only score of the run"


def read_scores(run: Path) -> RunScores:
    """The scores in metrics.jsonl of the run directory `run`."""
    rows = [row for row in read_json_lines(run / "metrics.jsonl") if row["split"] != "train"]
    weights = run / "checkpoints/best.safetensors"
    score, step, split = (read_fact(weights, name) for name in ("score", "step", "weights"))
    best = [row for row in rows if row["step"] == step and row["score"] == score]
    best = [row for row in best if split in (None, row["split"].replace("val", "model"))]  # if two have the same score
    last = max((row["step"] for row in rows), default=0)
    return RunScores(
        _score_of(best[-1]) if best else None, [_score_of(row) for row in rows if row["step"] == last], len(rows)
    )


def chosen_by(run: Path, weights: Path) -> str | None:
    """What chose `weights` among those of the run; None if they are not the run's, or it logged no score."""
    if weights == run / "checkpoints/best.safetensors":
        scores = read_scores(run)
        return scores.choice if scores.count else None
    return "nothing: the last step" if weights == run / "checkpoints/last.pt" else None


def _score_of(row: dict[str, Any]) -> CheckpointScore:
    numbers = {name: value for name, value in row.items() if name not in POSITION}
    return CheckpointScore(row["step"], row["split"] == "val_ema", row["score"], numbers)
