"""Which list an evaluation scores: the one that chooses checkpoints, or the one held out until the end."""

import itertools
import re
from typing import Annotated, Any, Literal

from pydantic import Field

from engine.task import Task
from settings import Settings, SettingsError

Share = Annotated[float, Field(gt=0, lt=1)]
"""A fraction of the training list that is held out of it."""


class ScoredListSettings(Settings):
    """The choice of the list."""

    on: Literal["val", "test"] = Field(
        "val", description="what is scored: data.val, by which a run chooses its best checkpoint; or data.test"
    )


def on_test(task: Any) -> Task:
    """The same task, scoring data.test."""
    evaluation = task.settings.evaluation.model_copy(update={"on": "test"})
    return type(task)(task.settings.model_copy(update={"evaluation": evaluation}), task.ranks)


def is_held_out(settings: Any) -> bool:
    """Whether an evaluation scores a part of data.train: a fraction or a fold."""
    data = settings.data
    return not isinstance(data.test if settings.evaluation.on == "test" else data.val, str)


def check_chooses_on_val(settings: Any) -> None:
    """Raises SettingsError if a run would choose its checkpoints by data.test."""
    if settings.evaluation.on == "test":
        raise SettingsError(
            "evaluation.on=test is for tools/evaluate.py: a run chooses its best checkpoint on data.val and scores "
            "data.test when it ends"
        )


def check_lists_are_given(data: Any) -> Any:
    """The section `data` unchanged. Raises ValueError if it describes a list of data.val or data.test that it lacks."""
    for on, part in itertools.product(("val", "test"), ("root", "split", "labels")):
        files, name = getattr(data, on), f"{on}_{part}"
        if not isinstance(files, str) and getattr(data, name, None) is not None:
            given = "not set" if files is None else f"a fraction, {files:g}"
            other = f", or data.test_{part} instead" if on == "val" and data.test is not None else ""
            raise ValueError(f"{name} describes the list data.{on}, which is {given}; set data.{name}=null{other}")
    return data


def check_source_pattern(pattern: str | None) -> str | None:
    """A regular expression, unchanged. Raises ValueError if it is not valid."""
    if pattern is not None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern
