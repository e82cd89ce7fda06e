"""What a run needs to know of a task: the whole contract.

A task joins a network, data, a loss and an evaluation. `Settings` and the abstract members of `Task` are all that it
must have: with these it trains, resumes, is scored and reported by tools/train.py and tools/evaluate.py. Everything
else has a default here. What only some tasks can do is a protocol of its own, at the end.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import nn

from engine.distributed import Ranks
from engine.optimizer import OptimizerSettings
from engine.run import RunSettings
from engine.schedule import ScheduleSettings
from engine.train_settings import TrainSettings
from settings import Settings, SettingsError

Batch = Any
"""What `Task.training_step` takes. A mapping, or an object, may also say `index` (the rows [B] of the training list,
for messages) and `failures` (samples that could not be read: dicts of path, reason, index, sample)."""


class TaskSettings(Settings):
    """The sections that every recipe has; a task adds its own."""

    task: str
    optimizer: OptimizerSettings
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings
    run: RunSettings = RunSettings()


class Evaluation(Protocol):
    """The scores of some weights. Subclass it to inherit what has a body here."""

    score: float
    """The one number by which weights are compared: larger is better, -inf where there is none."""
    failures: Sequence[dict[str, Any]] = ()
    """Items that could not be read: dicts of path, reason, index."""

    def summary(self) -> dict[str, float]:
        """The numbers worth keeping, by name: they go to metrics.jsonl, TensorBoard and summary.json."""
        ...

    def headline(self) -> str:
        """The result in half a line, for the log of a run."""
        return ", ".join(f"{name} {value:.4g}" for name, value in self.summary().items())

    def lines(self) -> list[str]:
        """The result as aligned lines of text, for a person."""
        return [f"  {name:<20} {value:12.6g}" for name, value in self.summary().items()]

    def write(self, folder: Path) -> None:
        """Writes what a report has besides summary.json, such as a row for each item."""


@dataclass(frozen=True)
class ResumeFolder:
    """Where a long evaluation may keep finished batches, and the facts that they depend on, as plain types."""

    path: Path
    key: dict[str, Any]


class Task(ABC):
    """A task of the recipe `settings`, on this process of a run."""

    Settings: ClassVar[type[TaskSettings]]
    """The schema of its recipes."""
    protocol: str = "val"
    """How an evaluation looks at the data, in a word: the name of its report."""
    advice: str = "  python tools/evaluate.py                  the scores once more, with a report"
    """What to try after training: a command and its purpose, a line each."""
    curves: ClassVar[Mapping[str, str]] = {"loss": "loss", "score": "score"}
    """What curves.png shows besides the learning rate: a name in metrics.jsonl, and the title of its panel."""

    def __init__(self, settings: TaskSettings, ranks: Ranks):
        self.settings, self.ranks = settings, ranks

    @property
    @abstractmethod
    def num_train_samples(self) -> int:
        """Samples of one epoch."""

    @abstractmethod
    def build_model(self) -> nn.Module:
        """The network with fresh weights, on the CPU or on torch's default device."""

    @abstractmethod
    def train_batches(self, first_batch: int, num_batches: int, batch_size: int, stream: str) -> Iterable[Batch]:
        """This rank's batches `first_batch`, ... of `stream` ("train" or "precise_bn"), on the device.

        Batch b of rank r holds the samples [(b * num_ranks + r) * batch_size, ... + batch_size) of the run. A sample
        must be a function of (seed, stream, sample number) alone: then a run resumes exactly, on any number of ranks.
        """

    @abstractmethod
    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The mean loss of `batch`, and sums over its samples to log (`loss` among them)."""

    @abstractmethod
    def evaluate(self, model: nn.Module) -> Evaluation | None:
        """The scores of `model`, which is in evaluation mode; every rank calls it, and all but the main one get None.

        Each item counts exactly once, on any number of ranks: see evaluators/gather.py.
        """

    def evaluate_resumably(self, model: nn.Module, folder: ResumeFolder) -> Evaluation | None:
        """`evaluate`; what it finishes may be kept in `folder`, from which the same evaluation resumes."""
        return self.evaluate(model)

    def check(self) -> None:
        """Reads all that the recipe names, so that mistakes are reported before anything starts."""
        if self.num_train_samples < 1:
            raise SettingsError(f"the task {self.settings.task} has no training samples")

    def load_initial_weights(self, model: nn.Module) -> None:
        """Loads pretrained weights, where the recipe names some."""

    def resolved_recipe(self) -> dict[str, Any]:
        """The whole recipe with every default filled in, as plain types."""
        return self.settings.model_dump(mode="json")

    def run_files(self) -> dict[str, str]:
        """Texts that belong with the weights, by file name: they are kept in the run directory."""
        return {}

    @classmethod
    def overrides_of_run(cls, run: Path) -> list[str]:
        """Settings, as `key=value`, by which later commands use the `run_files` of a run."""
        return []

    def report_facts(self) -> dict[str, Any]:
        """What an evaluation was made with, for its summary.json."""
        return {}


def rows_of(batch: Batch) -> list[int]:
    """The rows of the training list that the samples of `batch` are, where the batch says so."""
    index = _entry(batch, "index")
    return index.tolist() if isinstance(index, torch.Tensor) else []


def failures_of(batch: Batch) -> list[dict[str, Any]]:
    """The samples of `batch` that could not be read and were replaced."""
    failures = _entry(batch, "failures")
    return failures if isinstance(failures, list) else []


def _entry(batch: Batch, name: str) -> Any:
    return batch.get(name) if isinstance(batch, Mapping) else getattr(batch, name, None)


# What only some tasks can do.


class Answers(NamedTuple):
    """What a network says of some inputs."""

    rows: list[tuple[str, list[tuple[str, float]]]]
    """(path, [(answer, probability), ...]) of each input that was read, the most probable answer first."""
    failures: list[dict[str, Any]]
    """Inputs that could not be read: dicts of path, reason."""


@runtime_checkable
class Predicts(Protocol):
    """Answers questions about a person's own inputs, for tools/predict.py."""

    @staticmethod
    def find_inputs(places: Iterable[str | Path]) -> Sequence[Any]:
        """The inputs at `places`: files, or folders that stand for all that is in them. Raises OSError, ValueError."""
        ...

    def answer(self, model: nn.Module, inputs: Sequence[Any], num_answers: int) -> Answers | None:
        """The most probable answers about each of `inputs`; None on ranks other than the main one."""
        ...


class Picture(NamedTuple):
    """A sample to be looked at."""

    lines: Sequence[str]
    """Its text."""
    stages: Mapping[str, torch.Tensor]
    """Frames, uint8 [T, H, W, 3], of each of its stages, such as the file's and the network's."""


@runtime_checkable
class Shows(Protocol):
    """Shows what its network really sees, for tools/show_data.py."""

    def training_pictures(self, count: int) -> list[Picture]:
        """The first `count` training samples, before and after their transforms."""
        ...

    def validation_pictures(self, count: int) -> list[Picture]:
        """What evaluation sees of the first `count` validation items."""
        ...

    def sample_counts(self) -> tuple[Sequence[str], dict[str, Sequence[float]]]:
        """Names of the kinds of samples, and for each list how many it has of each kind."""
        ...
