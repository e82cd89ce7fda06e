"""The training loop, from the first step to the last, on one process or many.

A run is a stream of samples: sample k of the run is a pure function of (seed, k), and step s consumes the samples
[(s - 1) * batch_size, s * batch_size), whatever the number of ranks. So there is no generator to save and no sampler to
rewind: a run that was killed continues from its last checkpoint with the very numbers it would have had.
"""

import contextlib
import logging
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from engine.checkpoint import CheckpointError
from engine.ema import average_weights
from engine.evaluation import Evaluation
from engine.optimizer import OptimizerSettings, build_optimizer, set_learning_rate
from engine.precise_bn import update_batch_norm
from engine.precision import autocast, place_model
from engine.progress import Meter, progress_bar
from engine.ranks import Ranks
from engine.run import Run
from engine.schedule import ScheduleSettings, learning_rate
from engine.settings import Settings, SettingsError

log = logging.getLogger(__name__)

Batch = dict[str, Any]


class TrainSettings(Settings):
    """How long and how a network is trained."""

    num_epochs: float | None = Field(None, gt=0, description="length of the run in passes over the training list")
    num_samples: int | None = Field(None, gt=0, description="length of the run in samples, instead of epochs")
    batch_size: int = Field(gt=0, description="samples of one optimizer step, over all ranks and accumulated batches")
    accumulation_steps: int = Field(1, gt=0, description="forward and backward passes of one optimizer step")
    precision: Literal["float32", "bf16", "fp16"] = Field("float32", description="mixed precision of the network")
    channels_last: bool = Field(True, description="memory layout of weights and maps: channels last (faster)")
    ema_decay: float | None = Field(
        None, ge=0, lt=1, description="decay of a moving average of the weights, scored beside them; none: no average"
    )
    sync_batch_norm: bool = Field(False, description="batch statistics over all GPUs instead of each for itself")
    precise_bn_batches: int = Field(0, ge=0, description="batches of one step that set batch norm before evaluations")
    compile: bool = Field(False, description="torch.compile the network (needs a C++ compiler on CPUs)")
    evaluate_every_epochs: float = Field(1.0, gt=0, description="epochs between two evaluations; the end has one, too")
    checkpoint_every_steps: int = Field(500, gt=0, description="optimizer steps between two checkpoints")
    log_every_steps: int = Field(10, gt=0, description="optimizer steps between two lines of metrics.jsonl")
    max_unreadable: float = Field(
        0.05, ge=0, le=1, description="share of samples that may be unreadable before it stops"
    )

    @model_validator(mode="after")
    def _one_length(self):
        if (self.num_epochs is None) == (self.num_samples is None):
            raise ValueError("give train.num_epochs or train.num_samples, and set the other to null")
        if self.batch_size % self.accumulation_steps:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of accumulation_steps {self.accumulation_steps}"
            )
        return self

    def samples_per_forward(self, ranks: Ranks) -> int:
        """Samples of one forward pass on one rank; SettingsError if the batch cannot be shared out evenly."""
        parts = self.accumulation_steps * ranks.num_ranks
        if self.batch_size % parts:
            raise SettingsError(
                f"train.batch_size={self.batch_size} cannot be shared by {ranks.num_ranks} processes x "
                f"{self.accumulation_steps} accumulated batches; take a multiple of {parts}, for example "
                f"{math.ceil(self.batch_size / parts) * parts}"
            )
        return self.batch_size // parts


class Task(Protocol):
    """What the loop needs to know of a task."""

    num_train_samples: int

    def build_model(self) -> nn.Module: ...

    def load_initial_weights(self, model: nn.Module) -> None:
        """Loads pretrained weights where the recipe names some."""

    def train_batches(self, first_batch: int, num_batches: int, batch_size: int, stream: str) -> Iterable[Batch]:
        """This rank's batches `first_batch`, ... of `stream` ("train" or "precise_bn"), on the device.

        Over all ranks, batch b of rank r holds samples [(b * num_ranks + r) * batch_size, ... + batch_size).
        """

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The mean loss of `batch`, and sums over its samples to log (`loss` among them)."""

    def evaluate(self, model: nn.Module) -> Evaluation | None:
        """Scores on the validation set; None on ranks other than the main one."""


class TooManyFailures(RuntimeError):
    """More samples could not be read than the recipe allows."""


@dataclass
class Progress:
    """Where a run stands; part of every checkpoint."""

    step: int = 0
    best_score: float = -1.0
    best_step: int = 0
    num_unreadable: int = 0  # training samples that had to be replaced, up to the last line of metrics.jsonl
    window: dict[str, float] = field(default_factory=dict)  # sums since then, see Meter


class Trainer:
    """Trains a task's network by the recipe, from scratch or from where the run stopped.

    Steps count from 1. Everything that a step needs besides the weights is a function of its number.
    """

    def __init__(
        self,
        task: Task,
        settings: TrainSettings,
        optimizer: OptimizerSettings,
        schedule: ScheduleSettings,
        seed: int,
        run: Run,
        ranks: Ranks,
    ):
        self.task, self.settings, self.schedule, self.seed = task, settings, schedule, seed
        self.optimizer_settings, self.run, self.ranks = optimizer, run, ranks
        self.samples_per_epoch = task.num_train_samples
        self.samples_per_forward = settings.samples_per_forward(ranks)
        num_samples = settings.num_samples or settings.num_epochs * self.samples_per_epoch
        self.num_steps = math.ceil(num_samples / settings.batch_size)
        self.meter, self.progress = Meter(ranks), Progress()

        # The weights: 1. of the interrupted run, 2. pretrained, 3. from scratch.
        seed_position(seed, -1)
        self.model = task.build_model()
        saved = run.checkpoints.read_newest()
        if saved is None:
            task.load_initial_weights(self.model)
        self._place_model()
        self.optimizer = build_optimizer(self.model, optimizer)
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=settings.precision == "fp16")
        self.average = None if settings.ema_decay is None else average_weights(self.model, settings.ema_decay)
        if saved is not None:
            self._restore(saved)
        if ranks.broadcast(self.progress.step) != self.progress.step:
            raise CheckpointError(
                f"rank {ranks.rank} found the checkpoint of step {self.progress.step} in {run.folder}, rank 0 another; "
                "all machines of a run need the same run directory, on a disk that they share"
            )
        run.start_at(self.progress.step)

    def _place_model(self) -> None:
        """Layout, device, compilation; `network` is what is called in training: the model, or its parallel wrapper."""
        if self.settings.sync_batch_norm:
            if self.ranks.device.type == "cpu":
                raise SettingsError("train.sync_batch_norm needs GPUs; on CPUs batch norm sees each process for itself")
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        place_model(self.model, self.ranks.device, self.settings.channels_last)
        if self.settings.compile:
            self.model.compile()
        self.network = self.model
        if self.ranks.num_ranks > 1:
            device_ids = [self.ranks.device] if self.ranks.device.type == "cuda" else None
            self.network = DistributedDataParallel(self.model, device_ids=device_ids)

    def train(self) -> dict[str, float]:
        """Trains to the end -> summary of the last evaluation (empty on ranks but the main one).

        Raises TooManyFailures and FloatingPointError (see `_log`), CheckpointError where the disk is full.
        """
        settings, summary = self.settings, {}
        batches = iter(self._batches("train", self.progress.step + 1, self.num_steps))
        self.model.train()
        self.meter.start()
        with progress_bar(self.num_steps, self.progress.step, self.ranks, "training") as bar:
            for step in range(self.progress.step + 1, self.num_steps + 1):
                self._step(step, batches)
                is_last = step == self.num_steps
                bar.update()
                if is_last or step % settings.log_every_steps == 0:
                    bar.set_postfix(self._log(step), refresh=False)
                if is_last or self._evaluation_is_due(step):
                    with self.meter.paused():
                        summary = self._evaluate(step)
                if is_last or step % settings.checkpoint_every_steps == 0:
                    with self.meter.paused():
                        self._save(step)
        self.run.plot()
        self.ranks.barrier()  # what the main rank wrote last is there for all
        return summary

    def _batches(self, stream: str, first_step: int, last_step: int) -> Iterable[Batch]:
        """This rank's batches for the forward passes of steps `first_step` to `last_step`."""
        num_passes = self.settings.accumulation_steps
        first, end = (first_step - 1) * num_passes, last_step * num_passes
        return self.task.train_batches(first, end - first, self.samples_per_forward, stream)

    def learning_rate(self, step: int) -> float:
        milestones = self.schedule.milestones(self.settings.batch_size, self.samples_per_epoch)
        return learning_rate(step, self.optimizer_settings.lr, self.schedule, self.num_steps, milestones)

    def _step(self, step: int, batches: Iterator[Batch]) -> None:
        """One optimizer step: forward and backward over its accumulated batches, then the update."""
        num_passes = self.settings.accumulation_steps
        for number in range(num_passes):
            batch = self.meter.next_batch(batches)
            self.run.record_failures(batch["failures"])
            # Dropout and the like, too, are functions of the position in the run alone.
            seed_position(self.seed, ((step - 1) * num_passes + number) * self.ranks.num_ranks + self.ranks.rank)
            with self._gradients_stay_here() if number < num_passes - 1 else contextlib.nullcontext():
                with autocast(self.settings.precision, self.ranks.device):
                    loss, sums = self.task.training_step(self.network, batch)
                self.scaler.scale(loss / num_passes).backward()
            self.meter.add({**sums, "unreadable": _num_replaced(batch)}, len(batch["index"]))

        set_learning_rate(self.optimizer, self.learning_rate(step))
        if self.optimizer_settings.clip_grad_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.optimizer_settings.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _gradients_stay_here(self) -> contextlib.AbstractContextManager:
        """Gradients that are still being accumulated need no exchange between the ranks."""
        return contextlib.nullcontext() if self.network is self.model else self.network.no_sync()

    def _log(self, step: int) -> dict[str, str]:
        """Logs the averages since the last time; returns the few that fit into a progress bar.

        Raises, on all ranks alike, FloatingPointError if the loss is no number, TooManyFailures if more samples had to
        be replaced than `max_unreadable` of those so far, or of one epoch.
        """
        values = self.meter.close_window()
        num_seen = step * self.settings.batch_size
        self.progress.num_unreadable += round(values["unreadable"] * values.pop("num_samples"))
        self.run.log(step, "train", {"epoch": self._epoch(step), "learning_rate": self.learning_rate(step), **values})
        if not math.isfinite(values["loss"]) and not self.scaler.is_enabled():  # fp16 skips steps that overflow
            raise self._not_finite(step, f"the loss is {values['loss']}")
        if self.progress.num_unreadable > self.settings.max_unreadable * max(num_seen, self.samples_per_epoch):
            raise TooManyFailures(
                f"{self.progress.num_unreadable} of {num_seen} samples could not be read, more than "
                f"train.max_unreadable={self.settings.max_unreadable} allows. They are listed, with the reasons, in "
                f"{self.run.folder / 'failures.jsonl'}: mend or remove them, check data.root, or raise the limit"
            )
        shown = {
            "loss": "loss",
            "top1": "top-1",
            "samples_per_second": "samples/s",
            "waiting_for_data": "waiting for data",
        }
        return {shown[name]: f"{values[name]:.3g}" for name in shown if name in values}

    def _not_finite(self, step: int, what: str) -> FloatingPointError:
        return FloatingPointError(
            f"{what} at step {step} (learning rate {self.learning_rate(step):.3g}); lower optimizer.lr, lengthen "
            "schedule.warmup_steps or set optimizer.clip_grad_norm. The last checkpoint is from before"
        )

    def _check_weights(self, step: int) -> None:
        """Weights that are no numbers are neither evaluated nor saved; all ranks have the same ones."""
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                raise self._not_finite(step, f"{name} has values that are no numbers")

    def _epoch(self, step: int) -> float:
        return step * self.settings.batch_size / self.samples_per_epoch

    def _evaluation_is_due(self, step: int) -> bool:
        """Whether this step completed a multiple of `evaluate_every_epochs`."""
        period = self.settings.evaluate_every_epochs * self.samples_per_epoch / self.settings.batch_size  # in steps
        return math.floor(step / period + 1e-9) > math.floor((step - 1) / period + 1e-9)

    def _evaluate(self, step: int) -> dict[str, float]:
        """Scores the weights and, where there is one, their average -> summary of the better; keeps the best of all."""
        self._check_weights(step)
        summary, score = self._score(step, "val", self.model)
        if self.average is not None:
            of_average, score_of_average = self._score(step, "val_ema", self.average.module)
            if score_of_average >= score:
                summary = of_average
        self.run.plot(seconds_between=60)
        return summary

    def _score(self, step: int, split: str, model: nn.Module) -> tuple[dict[str, float], float]:
        """Scores `model` as `split` of metrics.jsonl -> summary and score (empty and -1 on ranks but the main one)."""
        if self.settings.precise_bn_batches:
            self._refresh_batch_norm(model)
        self.ranks.broadcast_buffers(model)
        model.eval()
        with autocast(self.settings.precision, self.ranks.device):
            evaluation = self.task.evaluate(model)
        model.train()
        if evaluation is None:
            return {}, -1.0
        summary, score = evaluation.summary(), evaluation.score
        self.run.record_failures(evaluation.predictions.failures)
        self.run.log(step, split, {"epoch": self._epoch(step), "top1": evaluation.item_scores.top1, **summary})
        is_best = score >= self.progress.best_score  # of equals the later one
        log.info(
            "step %d of %d%s: %.2f %% top-1, %.2f %% top-5 on %d of %d %ss%s",
            *(step, self.num_steps, "" if model is self.model else ", average of the weights"),
            *(100 * evaluation.item_scores.top1, 100 * evaluation.item_scores.top5),
            *(evaluation.num_read, evaluation.predictions.num_items, evaluation.item),
            ", the best so far" if is_best else "",
        )
        if is_best:
            self.progress.best_score, self.progress.best_step = score, step
            facts = {"step": str(step), "score": repr(score), "weights": split.replace("val", "model")}
            self.run.checkpoints.write_best(model.state_dict(), facts)
        return summary, score

    def _refresh_batch_norm(self, model: nn.Module) -> None:
        def forward(batch: Batch) -> None:
            self.run.record_failures(batch["failures"])
            self.task.training_step(model, batch)

        batches = self._batches("precise_bn", 1, self.settings.precise_bn_batches)
        with autocast(self.settings.precision, self.ranks.device):
            update_batch_norm(model, forward, batches, self.ranks)

    def _save(self, step: int) -> None:
        self._check_weights(step)
        self.progress.step, self.progress.window = step, self.meter.state()
        if self.ranks.is_main:
            average = {} if self.average is None else {"model_ema": self.average.module.state_dict()}
            self.run.checkpoints.write(
                {
                    "model": self.model.state_dict(),
                    **average,
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "progress": vars(self.progress),
                    "samples_seen": step * self.settings.batch_size,
                    "seed": self.seed,
                }
            )

    def _restore(self, saved: dict[str, Any]) -> None:
        try:
            self.model.load_state_dict(saved["model"])
            if self.average is not None:
                self.average.module.load_state_dict(saved["model_ema"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.scaler.load_state_dict(saved["scaler"])
            self.progress = Progress(**saved["progress"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).split("\n")[0]
            raise CheckpointError(
                f"{self.run.checkpoints.last} is no checkpoint of this run's network ({reason}); choose another run.dir"
            ) from error
        self.meter.restore(self.progress.window)
        log.info("continuing %s after step %d of %d", self.run.folder, self.progress.step, self.num_steps)


def _num_replaced(batch: Batch) -> int:
    """How many samples of the batch stand for one that could not be read; each may have taken several attempts."""
    return len({failure["sample"] for failure in batch["failures"]})


def seed_position(seed: int, position: int) -> None:
    """Seeds the generators of torch, numpy and Python by the run's seed and a position in it (-1: before the start)."""
    words = np.random.SeedSequence((seed, position + 1)).generate_state(4, np.uint64).tolist()
    torch.manual_seed(words[0])
    np.random.seed(np.array(words[1:3], dtype=np.uint64).view(np.uint32))  # timm's mixup draws from it
    random.seed(words[3])  # and its random erasing from this one
