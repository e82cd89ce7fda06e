"""What the methods of a task return, checked where the engine uses it: an error names the method and what is wrong."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from settings import SettingsError

if TYPE_CHECKING:
    from engine.task import Evaluation

RESERVED = ("step", "split", "epoch", "score")
"""Entries of metrics.jsonl that the engine writes itself."""


def summary_of(evaluation: "Evaluation") -> dict[str, float]:
    """`evaluation.summary()` with plain numbers: NumPy's and PyTorch's scalars are converted.

    Raises SettingsError if an entry is not a number, or has one of the names in `RESERVED`.
    """
    where = f"summary() of {type(evaluation).__name__}"
    values = evaluation.summary()
    for name in RESERVED:
        if name in values:
            raise SettingsError(f"{where}: the engine writes {name!r} itself; choose another name for this value")
    return {name: number_of(value, f"{where}: {name!r}") for name, value in values.items()}


def score_of(evaluation: "Evaluation") -> float:
    """The number that ranks it. Raises SettingsError if it is none."""
    where = f"score of {type(evaluation).__name__}"
    return float(number_of(getattr(evaluation, "score", None), where))


def number_of(value: Any, what: str) -> float:
    """`value` as a plain number. Raises SettingsError if it is none."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a scalar of NumPy or PyTorch
        value = value.item()
    if isinstance(value, int | float):
        return value
    raise SettingsError(f"{what} is {_kind(value)}; expected a number")


def _kind(value: Any) -> str:
    """The type of a value and, if it is an array or a tensor, its shape."""
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return f"{type(value).__name__}{shape}"


def check_step(task: object, returned: Any) -> None:
    """Raises SettingsError unless `training_step` of the task returned (loss, sums)."""
    where = f"training_step of {type(task).__name__}"
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise SettingsError(f"{where} returned {type(returned).__name__}; expected (loss, sums)")
    loss, sums = returned
    if not isinstance(loss, torch.Tensor) or loss.dim() != 0:
        raise SettingsError(f"{where}: the loss is {_kind(loss)}; expected a tensor without axes")
    if not loss.requires_grad:
        raise SettingsError(f"{where}: no trained parameter has an effect on the loss")
    if not isinstance(sums, Mapping) or "loss" not in sums:
        named = f"a dict of {list(sums)}" if isinstance(sums, Mapping) else type(sums).__name__
        raise SettingsError(f"{where}: the sums are {named}; expected a dict with at least 'loss'")
    for name, value in sums.items():
        if getattr(value, "ndim", 0) != 0 or (name.startswith("loss_") and not isinstance(value, torch.Tensor)):
            raise SettingsError(f"{where}: {name!r} is {_kind(value)}; expected a tensor without axes")


def check_same_names(names: Sequence[Sequence[str]]) -> None:
    """Raises SettingsError unless all ranks log the same names. `names`: those of each rank."""
    differing = sorted(set().union(*names) - set(names[0]).intersection(*names))
    if differing:
        raise SettingsError(
            f"training_step logs {', '.join(map(repr, differing))} on some ranks only; return the same sums on every "
            "rank at each step, 0 where there is nothing to add"
        )


def next_batch(batches: Iterator[Any]) -> Any:
    """The next of a task's `train_batches`. Raises SettingsError if there is none."""
    try:
        return next(batches)
    except StopIteration:
        raise SettingsError(
            "train_batches of the task ended before training did; it must give `num_batches` batches"
        ) from None
