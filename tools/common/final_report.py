"""The end of a run: the best and the last checkpoint side by side, and which list chose the best.

A score on the list that chose a checkpoint is too optimistic: the best of many is partly luck. So if the recipe has a
test list, both checkpoints are scored on it; if not, the score of the best is called a validation score. `result.json`
in the run directory has the same for tools/compare.py.
"""

import json
import logging
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.checkpoint import write_atomically
from engine.distributed import Ranks
from engine.json_io import to_json
from engine.own_code import summary_of
from engine.task import Task
from tools.common.loading_runs import report
from tools.common.run_scores import CheckpointScore, RunScores, read_scores

log = logging.getLogger(__name__)

RESULT = "result.json"


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    on: str
    """The setting of the scored list: data.test, or data.val if the recipe has no test list."""
    source: str
    """Where its items come from."""
    choice: str
    """What chose the best checkpoint."""
    best: CheckpointScore | None
    last: list[CheckpointScore]
    """Scores after the last step: of the weights and, if the run has one, of their average."""

    @property
    def is_test(self) -> bool:
        return self.on == "data.test"

    def lines(self) -> list[str]:
        """The scores as aligned text, with a note if they are validation scores."""
        rows = [(f"last{', averaged' * score.averaged}", score, "chosen by nothing") for score in self.last]
        if self.best is not None:
            rows.insert(0, ("best", self.best, f"chosen by {self.choice}"))
        width = max((len(name) for name, *_ in rows), default=0)
        table = [f"  {name:<{width}}  step {one.step:<7} score {_shown(one.score)}  {why}" for name, one, why in rows]
        if self.is_test or self.best is None or self.choice.startswith("nothing"):
            return [f"checkpoints on {self.on} ({self.source}):", *table]
        note = "  a validation score, not a test: this list chose the best; data.test=LIST scores both on another"
        return [f"checkpoints on {self.on} ({self.source}):", *table, note]


def _shown(score: float | None) -> str:
    return f"{score:.4f}" if score is not None and math.isfinite(score) else "-     "


def report_run(task: Task, run: Path, ranks: Ranks) -> None:
    """Writes the reports of a run that has ended, logs its checkpoints side by side and writes `RESULT`.

    Raises NotFinite as `report` does.
    """
    report(task, run, None, ranks)
    scores, test = ranks.on_main(lambda: read_scores(run)), task.test_task()
    result = Result("data.val", _place(task), scores.choice, scores.best, scores.last)
    if test is not None:
        result = _on_test(test, run, scores, ranks)
    if ranks.is_main:
        text = to_json(asdict(result), indent=2) + "\n"
        write_atomically(run / RESULT, lambda path: path.write_text(text, encoding="utf-8"))
        for line in result.lines():
            log.info("%s", line)


def read_result(run: Path) -> Result | None:
    """How the run in `run` ended; None if it has not."""
    path = run / RESULT
    if not path.exists():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    best = values.pop("best")
    last = [CheckpointScore(**score) for score in values.pop("last")]
    return Result(**values, best=best and CheckpointScore(**best), last=last)


def _on_test(test: Task, run: Path, scores: RunScores, ranks: Ranks) -> Result:
    """The checkpoints of a run on the list of `test`. The best comes last: the page of a run shows the newest first."""
    is_best = [scores.best is not None and _weights(score) == _weights(scores.best) for score in scores.last]
    last = [
        None if same else _scored(score, report(test, run, "last", ranks, score.averaged))
        for score, same in zip(scores.last, is_best, strict=True)
    ]
    best = None if scores.best is None else _scored(scores.best, report(test, run, None, ranks))
    last = [best if same else score for score, same in zip(last, is_best, strict=True)]
    return Result("data.test", _place(test), scores.choice, best, last)


def _weights(score: CheckpointScore) -> tuple[int, bool]:
    return score.step, score.averaged


def _scored(of_run: CheckpointScore, evaluation: Any) -> CheckpointScore | None:
    """The checkpoint's score on another list, on the main rank."""
    return evaluation and CheckpointScore(of_run.step, of_run.averaged, evaluation.score, summary_of(evaluation))


def _place(task: Task) -> str:
    """Where the scored items come from, in words."""
    source = task.validation_source()
    if not source:
        return "of the task"
    place = next(iter(source.values()))
    shown = min(place, os.path.relpath(place), key=len)
    return f"{source['split']} of {shown}" if "split" in source else shown
