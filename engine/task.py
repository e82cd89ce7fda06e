"""The contract between the engine and a task.

A task combines a network, data, a loss and an evaluation. It must define `Settings` and the abstract members of `Task`.
With only these, tools/train.py can train and resume it, and tools/evaluate.py can score it and write a report. Every
other member has a default. What only some tasks can do is an optional protocol, at the end of this file.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import nn

from engine.distributed import Ranks
from engine.fingerprint import Contents, Part, as_plain
from engine.optimizer import OptimizerSettings
from engine.run import RunSettings
from engine.schedule import ScheduleSettings, warn_of_length
from engine.train_settings import TrainSettings
from settings import Settings, SettingsError

log = logging.getLogger(__name__)

Batch = Any
"""What `Task.training_step` takes: any type. A mapping or object may also have `index` (rows [B] of the training list,
for messages) and `failures` (samples that could not be read: dicts with path, reason, index, sample)."""


class TaskSettings(Settings):
    """The sections of every recipe. A task adds its own."""

    task: str
    optimizer: OptimizerSettings
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings
    run: RunSettings = RunSettings()

    def check_length(self, samples_per_epoch: int) -> None:
        """Raises SettingsError if the run has no whole batch.

        Logs whether a batch is larger than an epoch, and warns if the run is too short for its schedule.
        """
        num_steps = self.train.num_steps(samples_per_epoch)
        if self.train.batch_size > samples_per_epoch:
            log.info(
                "train.batch_size=%d is more than the %d training samples, so each batch repeats some of them",
                *(self.train.batch_size, samples_per_epoch),
            )
        warn_of_length(self.schedule, self.schedule.milestones(self.train.batch_size, samples_per_epoch), num_steps)


class Evaluation(Protocol):
    """The scores of a set of weights. Subclass it to inherit the default methods."""

    score: float
    """The number that ranks checkpoints: larger is better, -inf if nothing could be scored. NaN: the outputs cannot be
    trusted. Then the report is written, the weights are not the best, and the command stops with an error."""
    tie_break: float = 0.0
    """Ranks weights of equal score, such as minus the loss: larger is better. Full ties go to the later step."""
    failures: Sequence[dict[str, Any]] = ()
    """Items that could not be read: dicts with path, reason, index."""

    def summary(self) -> dict[str, float]:
        """All values worth keeping, by name (not one of `engine.own_code.RESERVED`), for the files and TensorBoard."""
        ...

    def headline(self) -> str:
        """The result in a few words, for the log of a run."""
        return ", ".join(f"{name} {value:.4g}" for name, value in self.summary().items())

    def lines(self) -> list[str]:
        """The result as aligned lines of text, for the terminal."""
        return [f"  {name:<20} {value:12.6g}" for name, value in self.summary().items()]

    def write(self, folder: Path) -> None:
        """Writes the files of a report other than summary.json, such as a table with a row per item."""


@dataclass(frozen=True)
class ResumeFolder:
    """A folder in which a long evaluation may store finished batches."""

    path: Path
    key: dict[str, Any]
    """Everything the stored batches depend on, as plain types. With another key the evaluation starts over."""


class Task(ABC):
    """A task with the recipe `settings`, on one rank of a run."""

    Settings: ClassVar[type[TaskSettings]]
    """The schema of its recipes."""
    protocol: str = "val"
    """Short name of the evaluation protocol, such as "10x3". The report folder is named after it."""
    advice: str = "  ./run_local.sh tools/evaluate.py          the scores once more, with a report"
    """What to try after training: one line per command, with its purpose. Commands start with ./run_local.sh."""
    smaller_files: str = "smaller files"  # what makes reading faster, in words
    curves: ClassVar[Mapping[str, str]] = {"loss": "loss", "score": "score"}
    """What curves.png shows besides the learning rate: name in metrics.jsonl -> panel title."""

    def __init__(self, settings: TaskSettings, ranks: Ranks):
        self.settings, self.ranks = settings, ranks

    @property
    @abstractmethod
    def num_train_samples(self) -> int:
        """Samples per epoch."""

    @property
    def num_evaluation_samples(self) -> int | None:
        """Samples that `evaluate` gives the network, on all ranks, in units of training samples; None: unknown."""
        return None  # read by train.evaluate_every_epochs: auto

    @abstractmethod
    def build_model(self) -> nn.Module:
        """A network with fresh weights, on the CPU or torch's default device."""

    @abstractmethod
    def train_batches(self, first_batch: int, num_batches: int, batch_size: int, stream: str) -> Iterable[Batch]:
        """This rank's `num_batches` batches of `stream` ("train" or "precise_bn") from `first_batch` on, on the device.

        Batch b of rank r holds the samples [(b * num_ranks + r) * batch_size, ... + batch_size) of the run. A sample
        must depend only on (seed, stream, sample number). Then a run resumes exactly, on any number of ranks.
        """

    @abstractmethod
    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The mean loss of `batch` [], and the sums over its samples to log (including `loss`), the same on every rank.

        If the loss is a sum of parts, log them as `loss_...`: a message names those that are NaN or infinite.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module) -> Evaluation | None:
        """Scores `model`, which is in eval mode. Every rank calls it; ranks other than the main one return None.

        Each item must count exactly once, on any number of ranks; `evaluators.gather.gather` takes care of that.
        """

    def evaluate_resumably(self, model: nn.Module, folder: ResumeFolder) -> Evaluation | None:
        """Like `evaluate`, but may store finished batches in `folder` and resume from them."""
        return self.evaluate(model)

    def check(self) -> None:
        """Checks everything the recipe refers to, so that mistakes are reported before training starts."""
        if self.num_train_samples < 1:
            raise SettingsError(f"the task {self.settings.task} has no training samples")
        self.settings.check_length(self.num_train_samples)

    def test_task(self) -> "Task | None":
        """The same task with `evaluate` on test items, which do not select checkpoints; None without such items."""
        return None

    @property
    def holds_out(self) -> bool:
        """Whether evaluations score items that were drawn from the training list and held out."""
        return False

    def warn_of_scored_training_items(self) -> None:
        """Logs a warning if items that an evaluation scores are also for training. Asked only if it `holds_out`."""

    def fingerprint(self, part: Part) -> Mapping[str, Contents]:
        """What `part` of the task depends on besides the recipe, by name: the contents of lists and tables.

        Checkpoints store it. A run is not resumed with other "training" or "outputs"; if "validation" has changed, it
        says so and starts a new search for the best score. Leave out file paths, because files may move.
        """
        return {"training samples": Contents(self.num_train_samples)} if part == "training" else {}

    def load_initial_weights(self, model: nn.Module) -> None:
        """Loads pretrained weights if the recipe names any."""

    def resolved_recipe(self) -> dict[str, Any]:
        """The whole recipe with every default filled in, as plain types: the task's own sections, then the engine's."""
        recipe = self.settings.model_dump(mode="json")
        of_engine = {name: recipe.pop(name) for name in TaskSettings.model_fields}
        return {"task": of_engine.pop("task"), **recipe, **of_engine}

    def portable_recipe(self) -> dict[str, Any]:
        """The resolved recipe without what is specific to this machine, so that a weight file needs nothing else.

        A task adds what the recipe reads from other files and the outputs need, such as class names.
        """
        recipe = self.resolved_recipe()
        recipe["run"] = {name: value for name, value in recipe["run"].items() if name not in ("dir", "device")}
        return recipe

    def run_files(self) -> dict[str, str]:
        """Text files (name -> content) to store in the run directory with the weights, such as class names."""
        return {}

    @classmethod
    def overrides_of_run(cls, run: Path) -> list[str]:
        """Overrides (`key=value`) that make later commands use the `run_files` of a run."""
        return []

    def validation_source(self) -> dict[str, str]:
        """Where the items that `evaluate` scores come from, by kind of source: {"list": "/data/val.txt"}.

        A report on a source other than the run's own is named after it. {}: the recipe does not choose it.
        """
        return {}

    @property
    def precision(self) -> str:
        """The number format in which the network runs."""
        return self.settings.train.precision

    def evaluation_key(self) -> dict[str, Any]:
        """What the scores depend on besides the weights, as plain types. Reports with other keys are kept apart."""
        recipe = self.resolved_recipe()
        own = {name: value for name, value in recipe.items() if name not in TaskSettings.model_fields}
        contents = as_plain({"validation": self.fingerprint("validation")})
        return {**own, "task": recipe["task"], "precision": self.precision, **contents}

    def report_facts(self) -> dict[str, Any]:
        """The settings behind an evaluation, for its summary.json."""
        return {}


def rows_of(batch: Batch) -> list[int]:
    """The rows of the training list in `batch`; [] if it has no `index`."""
    index = _entry(batch, "index")
    return index.tolist() if isinstance(index, torch.Tensor) else []


def failures_of(batch: Batch) -> list[dict[str, Any]]:
    """The samples of `batch` that could not be read and were replaced; [] if it has no `failures`."""
    failures = _entry(batch, "failures")
    return failures if isinstance(failures, list) else []


def _entry(batch: Batch, name: str) -> Any:
    return batch.get(name) if isinstance(batch, Mapping) else getattr(batch, name, None)


# Optional protocols: what only some tasks can do.


class Answer(NamedTuple):
    """A network's prediction for one input, or for a part of it."""

    row: int
    """Index of the input, or of the part, from 0."""
    path: str
    """Where the input is."""
    guesses: list[tuple[str, float]]
    """(answer, probability), most probable first; [] if there is a `failure`."""
    failure: str = ""
    """Why there is no prediction: the input cannot be read, or the outputs are NaN or infinite."""
    seconds: tuple[float, float] | None = None
    """Start and end of the part, from the start of the input; None: all of it."""


@runtime_checkable
class Predicts(Protocol):
    """Predicts on the user's own files, for tools/predict.py, in a single process."""

    @staticmethod
    def find_inputs(places: Iterable[Any]) -> Sequence[Any]:
        """The inputs in `places`: files, folders to search, or what the task takes instead of a file.

        Raises OSError or ValueError.
        """
        ...

    def answer(
        self,
        model: nn.Module,
        inputs: Sequence[Any],
        num_answers: int,
        done: Collection[int] = (),
        one_by_one: bool = False,
    ) -> Iterator[Answer]:
        """The `num_answers` most probable answers for each input, in order, as soon as its batch is done.

        Args:
            done: inputs to skip; the other answers stay the same to the last digit.
            one_by_one: use batches of one input instead of those of an evaluation.
        """
        ...

    def answer_key(self) -> dict[str, Any]:
        """All settings that answers depend on, as plain types."""
        ...


@runtime_checkable
class PredictsParts(Protocol):
    """Predicts on a long input part by part, for timelines and live streams."""

    def answer_parts(
        self,
        model: nn.Module,
        source: str,
        num_answers: int,
        seconds: float | None = None,
        stride: float | None = None,
        done: int = 0,
    ) -> Iterator[Answer]:
        """The `num_answers` most probable answers for each part of `source`, a file or a stream, as it is done.

        Args:
            seconds: length of a part; None: the length that the network takes.
            stride: from the start of a part to the start of the next, in seconds; None: half a part.
            done: number of parts to skip at the start.

        Raises UserError if the source cannot be opened.
        """
        ...


class Seen(NamedTuple):
    """What a network found in one input, with locations."""

    row: int
    """Index of the input, from 0."""
    path: str
    outputs: Any
    """The task's own; None if there is a `failure`."""
    failure: str = ""
    """Why there are no outputs: the input cannot be read, or the outputs are NaN or infinite."""


@runtime_checkable
class Draws(Protocol):
    """Draws predictions on the user's own files, for tools/predict.py --output, in a single process."""

    def see(self, model: nn.Module, inputs: Sequence[Any], one_by_one: bool = False) -> Iterator[Seen]:
        """What is found in each of the inputs of `Predicts.find_inputs`, in order, as soon as its batch is done."""
        ...

    def draw(self, picture: torch.Tensor, outputs: Any) -> torch.Tensor:
        """The outputs of an input drawn on it: uint8 [3, H, W] -> uint8 [3, h, w]; small ones may be enlarged."""
        ...

    def facts(self, outputs: Any) -> dict[str, Any]:
        """The outputs as plain types, for JSON."""
        ...

    def maps(self, outputs: Any) -> dict[str, torch.Tensor]:
        """Integer maps to write as separate files: name -> uint8 [H, W]."""
        ...

    def over_time(self, smooth: float, track: bool) -> Callable[[Any], Any]:
        """A function that takes the outputs of successive frames and returns them smoothed or tracked.

        Raises SettingsError if the task cannot do what is asked for.
        """
        ...


class Vocabulary(Protocol):
    """Names and their indices, from 0."""

    names: tuple[str, ...]

    def __len__(self) -> int: ...

    def number(self, name: str) -> int:
        """The index of `name`. Raises ValueError with the nearest names if it is unknown."""
        ...


class NamedGraph(NamedTuple):
    """A graph of facts, and the names of its nodes and relations."""

    data: Any
    """PyG `Data(edge_index [2, 2N], edge_type [2N], num_nodes)`: edge i < N is the i-th fact, from head to tail; edge
    N + i is its inverse, of type r + R."""
    entities: Vocabulary
    relations: Vocabulary
    """The R relations of the run, in the run's order, including any that the graph lacks."""
    notes: tuple[str, ...] = ()
    """What the user should know about the graph, such as repeated lines: one sentence each."""


@runtime_checkable
class AnswersQuestions(Protocol):
    """Answers questions on the user's own graphs, for tools/predict.py --graph and tools/explain.py.

    The network is a conditional reasoner: `model(data, heads [B], relations [B], edge_weight=None)` gives a logit for
    each node, [B, num_nodes]. Relation r < R asks (head, r, ?); r + R asks (?, r, tail) with the tail in `heads`.
    """

    def read_graph(self, path: Path) -> NamedGraph:
        """The graph in a file of triples, with the relations of the run.

        Raises OSError, or ValueError if there is no triple, a line is not one, or a relation is not the run's.
        """
        ...

    def probabilities(
        self, model: nn.Module, graph: NamedGraph, heads: torch.Tensor, relations: torch.Tensor
    ) -> Iterator[torch.Tensor]:
        """One row for each question, in order, as soon as its batch is done: float [num_nodes], on the CPU.

        With the full softmax, answers that are facts are left out of the normalizing sum of the others: an answer
        competes only with nodes about which nothing is known, as in training.

        Args:
            heads: int64 [Q]
            relations: int64 [Q], from 0 to 2R - 1
        """
        ...


class Picture(NamedTuple):
    """A sample as text and images."""

    lines: Sequence[str | Sequence[tuple[str, tuple[int, int, int]]]]
    """Its caption. A line is text, or a legend: names with their colors."""
    stages: Mapping[str, torch.Tensor]
    """Stage -> frames, uint8 [T, H, W, 3]: the sample in the file, or as the network's input, for example."""
    height: int | None = None
    """Display height of the frames in pixels; None: small."""


@runtime_checkable
class Shows(Protocol):
    """Shows what the network sees, for tools/show_data.py."""

    def training_pictures(self, count: int) -> list[Picture]:
        """The first `count` training samples, before and after their transforms."""
        ...

    def validation_pictures(self, count: int) -> list[Picture]:
        """`count` validation items, from as many categories as possible, as evaluation sees them."""
        ...

    def sample_counts(self) -> tuple[Sequence[str], dict[str, Sequence[float]]]:
        """Names of the categories, and for each list the number of samples per category.

        A task that counts something else, such as objects, says so in `counted`.
        """
        ...


@runtime_checkable
class ShowsPredictions(Protocol):
    """Shows predictions beside the ground truth, for the sheet of images in a report."""

    def prediction_pictures(self, model: nn.Module, count: int) -> list[Picture]:
        """`count` validation items, from as many categories as possible, with ground truth and predictions."""
        ...
