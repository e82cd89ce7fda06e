"""The training loop, from the first step to the last, on one process or many.

A run is a stream of samples: sample k of the run is a pure function of (seed, k), and step s consumes the samples
[(s - 1) * batch_size, s * batch_size), whatever the number of ranks. So there is no generator to save and no sampler to
rewind: a run that was killed continues from its last checkpoint with the very numbers it would have had.

A run that is asked to stop (SIGTERM, SIGUSR1) finishes its step, saves and raises Stopped. It also saves before each
evaluation, which may then be broken off at any point.
"""

import copy
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
from torch.nn.modules.batchnorm import _BatchNorm

from engine.checkpoint import CheckpointError
from engine.distributed import Ranks
from engine.ema import average_weights
from engine.non_finite import ADVICE, Agreement, NotFinite, StepRecord, record_step
from engine.optimizer import OptimizerSettings, build_optimizer, set_learning_rate
from engine.parallel import (
    Compression,
    Sharding,
    average_scalars,
    clip_gradient,
    copy_to_ranks,
    exchanging,
    find_blocks,
    gathered,
    load_model_state,
    load_optimizer_state,
    local,
    recompute_activations,
    shard,
    whole,
)
from engine.precise_bn import update_batch_norm
from engine.precision import autocast, place_model
from engine.progress import Meter, progress_bar
from engine.run import Run
from engine.schedule import ScheduleSettings, learning_rate
from engine.signals import Stopped, StopSignals
from evaluators.classification import Evaluation
from settings import Settings, SettingsError

log = logging.getLogger(__name__)

Batch = dict[str, Any]


class TrainSettings(Settings):
    """How long and how a network is trained."""

    CHANGEABLE = (
        *("log_every_steps", "checkpoint_every_steps", "keep_checkpoints", "keep_every_steps"),
        *("non_finite", "sharding", "activation_checkpointing"),
    )

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
    sharding: Sharding = Field("none", description="none: the whole network on each rank; fsdp: a part of it on each")
    activation_checkpointing: bool = Field(
        False, description="compute the insides of blocks again in the backward pass instead of keeping them"
    )
    gradient_compression: Compression = Field(
        "none", description="numbers in which ranks send each other gradients: none (their own), bf16, fp16"
    )
    non_finite: Literal["stop", "skip"] = Field(
        "stop", description="after a loss or gradient that is no number: stop, or leave that step out (waits each step)"
    )
    evaluate_every_epochs: float = Field(1.0, gt=0, description="epochs between two evaluations; the end has one, too")
    checkpoint_every_steps: int = Field(500, gt=0, description="optimizer steps between two checkpoints")
    keep_checkpoints: int = Field(2, gt=0, description="how many of the newest checkpoints stay")
    keep_every_steps: int | None = Field(
        None, gt=0, description="checkpoints of multiples of it stay for good; none: of none"
    )
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
        if self.keep_every_steps and self.keep_every_steps % self.checkpoint_every_steps:
            raise ValueError(
                f"keep_every_steps {self.keep_every_steps} must be a multiple of checkpoint_every_steps "
                f"{self.checkpoint_every_steps}"
            )
        if self.sharding == "fsdp" and self.gradient_compression != "none":
            raise ValueError("gradient_compression is for sharding: none; set one of them to none")
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


MOST_SKIPPED_IN_A_ROW = 20
WAITING_WORTH_A_WARNING = 0.2  # share of the training time


@dataclass
class Progress:
    """Where a run stands; part of every checkpoint."""

    step: int = 0
    best_score: float = -1.0
    best_step: int = 0
    evaluated_step: int = 0  # the last one
    num_skipped: int = 0  # steps left out as their numbers were not finite
    num_skipped_in_a_row: int = 0
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
        run.checkpoints.num_kept = settings.keep_checkpoints
        run.checkpoints.keep_every_steps = settings.keep_every_steps

        # The weights: 1. of the interrupted run, 2. pretrained, 3. from scratch.
        seed_position(seed, -1)
        self.model = task.build_model()
        saved = run.checkpoints.read_newest()
        if saved is None:
            task.load_initial_weights(self.model)
        self.average: nn.Module | None = None
        self._place_model()
        self.optimizer = build_optimizer(self.model, optimizer)
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=settings.precision == "fp16")
        if saved is not None:
            self._restore(saved)
        if ranks.broadcast(self.progress.step) != self.progress.step:
            raise CheckpointError(
                f"rank {ranks.rank} found the checkpoint of step {self.progress.step} in {run.folder}, rank 0 another; "
                "all machines of a run need the same run directory, on a disk that they share"
            )
        run.start_at(self.progress.step, self.progress.evaluated_step)

    def _place_model(self) -> None:
        """Layout, device, compilation; `network` is what is called in training: the model, or its parallel wrapper."""
        settings, ranks = self.settings, self.ranks
        if settings.sync_batch_norm:
            if ranks.device.type == "cpu":
                raise SettingsError("train.sync_batch_norm needs GPUs; on CPUs batch norm sees each process for itself")
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        is_sharded = settings.sharding == "fsdp" and ranks.num_ranks > 1
        # FSDP2 takes weights in the plain layout only; the maps are channels last, as the task makes them.
        place_model(self.model, ranks.device, settings.channels_last and not is_sharded)
        if settings.ema_decay is not None:
            self.average = average_weights(self.model, settings.ema_decay)
        blocks = find_blocks(self.model)
        self._warn_of_ignored(blocks)
        if settings.activation_checkpointing:
            recompute_activations(blocks)
        if settings.compile:
            self.model.compile()
        self.network = self.model
        if is_sharded:
            shard(self.model, blocks)
            if self.average is not None:
                shard(self.average.module, find_blocks(self.average.module))
        elif ranks.num_ranks > 1:
            self.network = copy_to_ranks(self.model, ranks, settings.gradient_compression)

    def _warn_of_ignored(self, blocks: list[nn.Module]) -> None:
        """Says which settings change nothing in this run."""
        settings, alone = self.settings, self.ranks.num_ranks == 1 and "there is one process"
        has_norms = any(isinstance(module, _BatchNorm) for module in self.model.modules())
        no_norms = not has_norms and "the network has no batch norm"
        reasons = {
            "sharding": settings.sharding != "none" and alone,
            "gradient_compression": settings.gradient_compression != "none" and alone,
            "sync_batch_norm": settings.sync_batch_norm and (alone or no_norms),
            "precise_bn_batches": settings.precise_bn_batches and no_norms,
            "activation_checkpointing": settings.activation_checkpointing
            and not blocks
            and "the network is not made of blocks",
        }
        for name, reason in reasons.items():
            if reason and self.ranks.is_main:
                log.warning("train.%s is ignored: %s", name, reason)

    def train(self) -> dict[str, float]:
        """Trains to the end -> summary of the last evaluation (empty on ranks but the main one).

        Raises Stopped after a signal, TooManyFailures (see `_log`), NotFinite, CheckpointError where the disk is full.
        """
        self.model.train()
        with StopSignals() as self.stop:
            self.agreement = Agreement(self.ranks, lambda: self.stop.name is not None)
            try:
                summary = self._train()
            except Stopped:
                self.run.checkpoints.wait()
                raise
        self.ranks.heartbeat.at("finishing the run directory")
        self.run.checkpoints.wait()
        self.run.plot()
        self._warn_of_waiting()
        self.ranks.barrier()  # what the main rank wrote last is there for all
        return summary

    def _train(self) -> dict[str, float]:
        summary, first = {}, self.progress.step + 1
        if self._evaluation_is_due(first - 1) and self.progress.evaluated_step < first - 1:  # it was broken off
            summary = self._evaluate(first - 1)
            self._save(first - 1)
        batches = iter(self._batches("train", first, self.num_steps))
        self.meter.start()
        with progress_bar(self.num_steps, first - 1, self.ranks, "training") as bar:
            for step in range(first, self.num_steps + 1):
                is_asked_to_stop = self._step(step, batches)
                bar.update()
                if step == self.num_steps or step % self.settings.log_every_steps == 0:
                    bar.set_postfix(self._log(step), refresh=False)
                with self.meter.paused():
                    self.run.checkpoints.check()
                    summary = self._save_and_evaluate(step, is_asked_to_stop) or summary
        return summary

    def _save_and_evaluate(self, step: int, is_asked_to_stop: bool) -> dict[str, float]:
        """What is due after a step -> summary of the evaluation, if there was one."""
        summary, evaluates = {}, self._evaluation_is_due(step)
        saves = step == self.num_steps or step % self.settings.checkpoint_every_steps == 0
        if evaluates or saves or is_asked_to_stop:
            is_asked_to_stop = self.agreement.settle() or is_asked_to_stop
        if evaluates or is_asked_to_stop:
            self._save(step)
        if is_asked_to_stop:
            raise Stopped(f"{self.stop.name or 'a signal to another rank'} after step {step}")
        if evaluates:
            summary = self._evaluate(step)
        if saves:
            self._save(step)
        return summary

    def _batches(self, stream: str, first_step: int, last_step: int) -> Iterable[Batch]:
        """This rank's batches for the forward passes of steps `first_step` to `last_step`."""
        num_passes = self.settings.accumulation_steps
        first, end = (first_step - 1) * num_passes, last_step * num_passes
        return self.task.train_batches(first, end - first, self.samples_per_forward, stream)

    def learning_rate(self, step: int) -> float:
        milestones = self.schedule.milestones(self.settings.batch_size, self.samples_per_epoch)
        return learning_rate(step, self.optimizer_settings.lr, self.schedule, self.num_steps, milestones)

    def _step(self, step: int, batches: Iterator[Batch]) -> bool:
        """One optimizer step: forward and backward over its accumulated batches, then the update.

        Returns whether some rank was asked to stop; raises NotFinite.
        """
        num_passes, places = self.settings.accumulation_steps, self.ranks.heartbeat
        before = self._keep_for_skipping()
        losses, samples = [], []
        for number in range(num_passes):
            places.at(f"reading the data of step {step}")
            batch = self.meter.next_batch(batches)
            places.at(f"computing step {step}, or exchanging its gradients")
            self.run.record_failures(batch["failures"])
            # Dropout and the like, too, are functions of the position in the run alone.
            seed_position(self.seed, self._position(step, number))
            with exchanging(self.network, is_last=number == num_passes - 1):
                with autocast(self.settings.precision, self.ranks.device):
                    loss, sums = self.task.training_step(self.network, batch)
                self.scaler.scale(loss / num_passes).backward()
            self.meter.add({**sums, "unreadable": _num_replaced(batch)}, len(batch["index"]))
            losses.append(loss)
            samples.append(batch["index"].tolist())

        rate = self.learning_rate(step)
        set_learning_rate(self.optimizer, rate)
        record = record_step(step, rate, samples, losses, self._clip_gradient())
        is_asked_to_stop = False
        if self.settings.non_finite == "stop":
            is_asked_to_stop = self.agreement.after_step(record)
        elif not self.agreement.is_finite(record):
            self._skip(record, before)
            return self.agreement.settle()
        else:
            is_asked_to_stop = self.agreement.settle()
            self.progress.num_skipped_in_a_row = 0
        self.run.checkpoints.wait_for_copy()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.model)
        return is_asked_to_stop

    def _position(self, step: int, number: int) -> int:
        """The place of this rank's forward pass `number` of `step` among those of the run."""
        return ((step - 1) * self.settings.accumulation_steps + number) * self.ranks.num_ranks + self.ranks.rank

    def _clip_gradient(self) -> torch.Tensor | None:
        """Clips the gradient as the recipe says -> its norm before; None in fp16, whose scaler expects overflows."""
        limit = self.optimizer_settings.clip_grad_norm
        average_scalars(self.network, self.ranks)
        if not self.scaler.is_enabled():
            return clip_gradient(self.model, limit)
        if limit:
            self.scaler.unscale_(self.optimizer)
            clip_gradient(self.model, limit)
        return None

    def _keep_for_skipping(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """What a step changes before its update: the network's buffers (batch norm's statistics), and sums."""
        if self.settings.non_finite != "skip":
            return None
        return {name: buffer.clone() for name, buffer in self.model.named_buffers()}, self.meter.sums()

    def _skip(self, record: StepRecord, before: tuple[dict[str, torch.Tensor], dict[str, Any]]) -> None:
        """Undoes a step. Raises NotFinite after many in a row."""
        buffers, sums = before
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])
        self.meter.set_sums(sums)
        if self.scaler.is_enabled():  # as after a gradient that is not finite
            self.scaler.update(self.scaler.get_scale() * self.scaler.get_backoff_factor())
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.num_skipped += 1
        self.progress.num_skipped_in_a_row += 1
        told = self.agreement.describe(record)
        if self.progress.num_skipped_in_a_row == MOST_SKIPPED_IN_A_ROW:
            raise NotFinite(f"{told}, the {MOST_SKIPPED_IN_A_ROW}th in a row. {ADVICE}")
        if self.ranks.is_main:
            log.warning("%s; left out, the %d. of the run", told, self.progress.num_skipped)

    def _log(self, step: int) -> dict[str, str]:
        """Logs the averages since the last time; returns the few that fit into a progress bar.

        Raises, on all ranks alike, TooManyFailures if more samples had to be replaced than `max_unreadable` of those so
        far, or of one epoch.
        """
        values = self.meter.close_window()
        if not values:
            return {}
        num_seen = step * self.settings.batch_size
        self.progress.num_unreadable += round(values["unreadable"] * values.pop("num_samples"))
        self.run.log(step, "train", {"epoch": self._epoch(step), "learning_rate": self.learning_rate(step), **values})
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

    def _check_weights(self, step: int) -> None:
        """Weights that are no numbers are neither evaluated nor saved."""
        names, parameters = zip(*self.model.named_parameters(), strict=True)
        flags = torch.stack([local(parameter).detach().sum().isfinite() for parameter in parameters])
        bad = self.ranks.any((~flags).tolist())
        if any(bad):
            raise NotFinite(f"{names[bad.index(True)]} has values that are not finite after step {step}. {ADVICE}")

    def _warn_of_waiting(self) -> None:
        share = self.meter.share_waited
        if share > WAITING_WORTH_A_WARNING and self.ranks.is_main:
            log.warning(
                "training waited %.0f %% of its time for data: more data.num_workers, smaller files "
                "(tools/convert_videos.py) or a faster disk would make it faster",
                100 * share,
            )

    def _epoch(self, step: int) -> float:
        return step * self.settings.batch_size / self.samples_per_epoch

    def _evaluation_is_due(self, step: int) -> bool:
        """Whether this step completed a multiple of `evaluate_every_epochs`, or the run."""
        period = self.settings.evaluate_every_epochs * self.samples_per_epoch / self.settings.batch_size  # in steps
        completed, before = (math.floor(number / period + 1e-9) for number in (step, step - 1))
        return step > 0 and (step == self.num_steps or completed > before)

    def _evaluate(self, step: int) -> dict[str, float]:
        """Scores the weights and, where there is one, their average -> summary of the better; keeps the best of all.

        A signal breaks it off: raises Stopped.
        """
        self._check_weights(step)
        # As if it came right after the step, also in a run that was started again in between.
        seed_position(self.seed, self._position(step, self.settings.accumulation_steps - 1))
        summary, score = self._score(step, "val", self.model)
        if self.average is not None:
            of_average, score_of_average = self._score(step, "val_ema", self.average.module)
            if score_of_average >= score:
                summary = of_average
        self.progress.evaluated_step = step
        self.run.plot(seconds_between=60)
        return summary

    def _score(self, step: int, split: str, model: nn.Module) -> tuple[dict[str, float], float]:
        """Scores `model` as `split` of metrics.jsonl -> summary and score (empty and -1 on ranks but the main one)."""
        self.ranks.heartbeat.at(f"scoring the weights of step {step}")
        with self.stop.raising(), gathered(model):
            if self.settings.precise_bn_batches:
                self._refresh_batch_norm(model)
            self.ranks.broadcast_buffers(model)
            model.eval()
            with autocast(self.settings.precision, self.ranks.device):
                evaluation = self.task.evaluate(model)
            model.train()
        summary, score = ({}, -1.0) if evaluation is None else (evaluation.summary(), evaluation.score)
        is_best = self.ranks.broadcast(score >= self.progress.best_score)  # of equals the later one
        if evaluation is not None:
            self._log_evaluation(step, split, evaluation, is_best)
        if is_best:
            self.progress.best_score, self.progress.best_step = score, step
            weights = whole(model.state_dict())
            facts = {"step": str(step), "score": repr(score), "weights": split.replace("val", "model")}
            if self.ranks.is_main:
                self.run.checkpoints.start_writing_best(weights, facts)
        return summary, score

    def _log_evaluation(self, step: int, split: str, evaluation: Evaluation, is_best: bool) -> None:
        scores = evaluation.item_scores
        self.run.record_failures(evaluation.predictions.failures)
        self.run.log(step, split, {"epoch": self._epoch(step), "top1": scores.top1, **evaluation.summary()})
        log.info(
            "step %d of %d%s: %.2f %% top-1, %.2f %% top-5 on %d of %d %ss%s",
            *(step, self.num_steps, ", average of the weights" if split == "val_ema" else ""),
            *(100 * scores.top1, 100 * scores.top5),
            *(evaluation.num_read, evaluation.predictions.num_items, evaluation.item),
            ", the best so far" if is_best else "",
        )

    def _refresh_batch_norm(self, model: nn.Module) -> None:
        def forward(batch: Batch) -> None:
            self.run.record_failures(batch["failures"])
            self.task.training_step(model, batch)

        batches = self._batches("precise_bn", 1, self.settings.precise_bn_batches)
        with autocast(self.settings.precision, self.ranks.device):
            update_batch_norm(model, forward, batches, self.ranks)

    def _save(self, step: int) -> None:
        """Has a thread of the main rank copy the state, up to the next update, and write it."""
        self.ranks.heartbeat.at(f"saving step {step}")
        self._check_weights(step)
        self.progress.step, self.progress.window = step, self.meter.state()
        average = {} if self.average is None else {"model_ema": _settled_state(self.average.module)}
        state = {
            "model": _settled_state(self.model),
            **average,
            "optimizer": whole(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "progress": copy.deepcopy(vars(self.progress)),
            "samples_seen": step * self.settings.batch_size,
            "seed": self.seed,
        }
        if self.ranks.is_main:
            self.run.checkpoints.start_writing(step, state)

    def _restore(self, saved: dict[str, Any]) -> None:
        try:
            load_model_state(self.model, saved["model"])
            if self.average is not None:
                load_model_state(self.average.module, saved["model_ema"])
            load_optimizer_state(self.optimizer, saved["optimizer"])
            self.scaler.load_state_dict(saved["scaler"])
            self.progress = Progress(**saved["progress"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).split("\n")[0]
            raise CheckpointError(
                f"{self.run.checkpoints.last} is no checkpoint of this run's network ({reason}); choose another run.dir"
            ) from error
        self.meter.restore(self.progress.window)
        log.info("continuing %s after step %d of %d", self.run.folder, self.progress.step, self.num_steps)


def _settled_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Its state dict, in which nothing changes before the next update: of what a forward pass changes it has copies."""
    buffers = {name for name, _ in model.named_buffers()}
    return {name: value.clone() if name in buffers else value for name, value in whole(model.state_dict()).items()}


def _num_replaced(batch: Batch) -> int:
    """How many samples of the batch stand for one that could not be read; each may have taken several attempts."""
    return len({failure["sample"] for failure in batch["failures"]})


def seed_position(seed: int, position: int) -> None:
    """Seeds the generators of torch, numpy and Python by the run's seed and a position in it (-1: before the start)."""
    words = np.random.SeedSequence((seed, position + 1)).generate_state(4, np.uint64).tolist()
    torch.manual_seed(words[0])
    np.random.seed(np.array(words[1:3], dtype=np.uint64).view(np.uint32))  # timm's mixup draws from it
    random.seed(words[3])  # and its random erasing from this one
