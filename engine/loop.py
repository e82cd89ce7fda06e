"""The training loop, from the first step to the last, on one process or many.

A run is a stream of samples: sample k of the run is a pure function of (seed, k), and step s consumes the samples
[(s - 1) * batch_size, s * batch_size), whatever the number of ranks. So there is no generator to save and no sampler to
rewind: a run that was killed continues from its last checkpoint with the very numbers it would have had.
"""

import contextlib
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from engine.evaluation import Evaluation
from engine.optimizer import OptimizerSettings, build_optimizer, set_learning_rate
from engine.precise_bn import update_batch_norm
from engine.precision import autocast, kernels_to_channels_last
from engine.progress import Meter, progress_bar
from engine.ranks import Ranks
from engine.run import Run, TooManyFailures
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
    sync_batch_norm: bool = Field(False, description="batch statistics over all GPUs instead of each for itself")
    precise_bn_batches: int = Field(0, ge=0, description="training batches that set batch norm before each evaluation")
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
            raise ValueError("give train.num_epochs or train.num_samples, one of the two")
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
        """Scores on the validation set; None on ranks other than the main one, or where there is none."""


@dataclass
class Progress:
    """Where a run stands; part of every checkpoint."""

    step: int = 0
    best_score: float = -1.0
    best_step: int = 0
    window: dict[str, float] = field(default_factory=dict)


def train(
    task: Task,
    settings: TrainSettings,
    optimizer_settings: OptimizerSettings,
    schedule: ScheduleSettings,
    seed: int,
    run: Run,
    ranks: Ranks,
) -> dict[str, float]:
    """Trains to the end of the recipe; returns the last evaluation's summary (empty on ranks other than the main one)."""
    batch_size, epoch = settings.batch_size, task.num_train_samples
    num_steps = math.ceil((settings.num_samples or settings.num_epochs * epoch) / batch_size)
    forward_size = settings.samples_per_forward(ranks)
    drops = schedule.drops_in_steps(batch_size, epoch)

    # The weights: 1. of the interrupted run, 2. pretrained, 3. from scratch.
    seed_position(seed, -1)
    model = task.build_model()
    saved = run.checkpoints.read_newest() if run.checkpoints.last.parent.exists() else None
    if saved is None:
        task.load_initial_weights(model)
    if settings.channels_last:
        kernels_to_channels_last(model)
    if settings.sync_batch_norm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.to(ranks.device)
    optimizer = build_optimizer(model, optimizer_settings)
    scaler = torch.amp.GradScaler(ranks.device.type, enabled=settings.precision == "fp16")
    meter, progress = Meter(ranks), Progress()
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        progress = Progress(**saved["progress"])
        meter.restore(progress.window)
        log.info("continuing %s after step %d of %d", run.folder, progress.step, num_steps)
    run.start_at(progress.step)
    if settings.compile:
        model.compile()
    network = model
    if ranks.num_ranks > 1:
        network = DistributedDataParallel(model, device_ids=[ranks.device] if ranks.device.type == "cuda" else None)

    def evaluate(step: int) -> dict[str, float]:
        if settings.precise_bn_batches:
            batches = task.train_batches(0, settings.precise_bn_batches, forward_size, stream="precise_bn")
            with autocast(settings.precision, ranks.device):
                update_batch_norm(model, lambda batch: task.training_step(model, batch), batches, ranks)
        ranks.broadcast_buffers(model)
        model.eval()
        with autocast(settings.precision, ranks.device):
            evaluation = task.evaluate(model)
        model.train()
        if evaluation is None:
            return {}
        summary = evaluation.summary()
        top1 = summary["video_top1"]
        run.record_failures(evaluation.predictions.failures)
        run.log(step, "val", {"epoch": step * batch_size / epoch, "top1": top1, **summary})
        run.plot(seconds_between=60)
        is_best = top1 >= progress.best_score  # of equals the later one
        log.info(
            "step %d of %d: %.2f %% top-1, %.2f %% top-5 on %d of %d videos%s", step, num_steps, 100 * top1,
            100 * summary["video_top5"], summary["videos_read"], summary["videos_listed"], ", the best so far" * is_best,
        )  # fmt: skip
        if is_best:
            progress.best_score, progress.best_step = top1, step
            run.checkpoints.write_best(model.state_dict(), {"step": str(step), "top1": repr(top1)})
        return summary

    def save(step: int) -> None:
        progress.step, progress.window = step, meter.state()
        if ranks.is_main:
            run.checkpoints.write(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scaler": scaler.state_dict(),
                    "progress": vars(progress),
                    "samples_seen": step * batch_size,
                    "seed": seed,
                }
            )

    first_batch = progress.step * settings.accumulation_steps
    num_batches = num_steps * settings.accumulation_steps - first_batch
    batches = iter(task.train_batches(first_batch, num_batches, forward_size, stream="train"))
    failures = _FailureCount(settings.max_unreadable, epoch // ranks.num_ranks)
    summary: dict[str, float] = {}
    model.train()
    bar = progress_bar(num_steps, progress.step, ranks, "training")
    for step in range(progress.step + 1, num_steps + 1):
        lr = learning_rate(step, optimizer_settings.lr, schedule, num_steps, drops)
        set_learning_rate(optimizer, lr)

        for micro in range(settings.accumulation_steps):
            batch = meter.next_batch(batches)
            run.record_failures(batch["failures"])
            failures.add(batch)
            # Dropout and the like, as a function of the position in the run alone.
            position = ((step - 1) * settings.accumulation_steps + micro) * ranks.num_ranks + ranks.rank
            seed_position(seed, position)
            is_last = micro == settings.accumulation_steps - 1
            with contextlib.nullcontext() if is_last or network is model else network.no_sync():
                with autocast(settings.precision, ranks.device):
                    loss, sums = task.training_step(network, batch)
                scaler.scale(loss / settings.accumulation_steps).backward()
            meter.add(sums, len(batch["index"]))

        scaler.unscale_(optimizer)
        if optimizer_settings.clip_grad_norm:
            nn.utils.clip_grad_norm_(model.parameters(), optimizer_settings.clip_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

        bar.update()
        is_end = step == num_steps
        if step % settings.log_every_steps == 0 or is_end:
            values = meter.close_window()
            if not math.isfinite(values["loss"]):
                raise FloatingPointError(
                    f"the loss is {values['loss']} at step {step} (learning rate {lr:.3g}, last videos "
                    f"{batch['index'].tolist()}); lower optimizer.lr, lengthen schedule.warmup_steps or set "
                    "optimizer.clip_grad_norm. The last checkpoint is untouched"
                )
            run.log(step, "train", {"epoch": step * batch_size / epoch, "learning_rate": lr, **values})
            bar.set_postfix(
                {name: f"{values[name]:.3g}" for name in ("loss", "top1", "clips_per_second") if name in values}
            )
        if is_end or _passes(step * batch_size, settings.evaluate_every_epochs * epoch, batch_size):
            with meter.paused():
                summary = evaluate(step)
        if is_end or step % settings.checkpoint_every_steps == 0:
            with meter.paused():
                save(step)
    bar.close()
    run.plot()
    return summary


def _passes(samples: int, period: float, batch_size: int) -> bool:
    """Whether a multiple of `period` samples was reached by the last `batch_size` of `samples`."""
    return samples // period > (samples - batch_size) // period


def seed_position(seed: int, position: int) -> None:
    """Seeds torch's generators as a function of the run's seed and a position in it (-1: before the first step)."""
    torch.manual_seed(int(np.random.SeedSequence((seed, position + 1)).generate_state(1, np.uint64)[0]))


class _FailureCount:
    """Stops a run in which too many samples are unreadable: more than the share of one epoch, or of all so far."""

    def __init__(self, max_share: float, samples_per_epoch: int):
        self._max_share = max_share
        self._samples_per_epoch = samples_per_epoch
        self._num_samples = 0
        self._failures: list[dict[str, Any]] = []

    def add(self, batch: Batch) -> None:
        self._num_samples += len(batch["index"])
        self._failures += batch["failures"]
        if len(self._failures) > self._max_share * max(self._num_samples, self._samples_per_epoch):
            examples = "\n  ".join(f"{failure['path']}: {failure['reason']}" for failure in self._failures[-3:])
            raise TooManyFailures(
                f"{len(self._failures)} of {self._num_samples} samples could not be read, more than "
                f"train.max_unreadable={self._max_share} allows; the last:\n  {examples}\n"
                "All are in failures.jsonl. Mend or remove them, check data.root, or raise train.max_unreadable"
            )
