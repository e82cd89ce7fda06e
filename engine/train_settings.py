"""The section `train` of every recipe."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.distributed import Ranks
from settings import Settings, SettingsError

Sharding = Literal["none", "fsdp"]
Compression = Literal["none", "bf16", "fp16"]


class TrainSettings(Settings):
    """How a network is trained, and for how long."""

    CHANGEABLE = (
        *("log_every_steps", "checkpoint_every_steps", "keep_checkpoints", "keep_every_steps"),
        *("non_finite", "sharding", "activation_checkpointing", "max_unreadable", "evaluate_every_epochs"),
        "stop_after_evaluations_without_gain",
    )

    num_epochs: float | None = Field(None, gt=0, le=1e6, description="length of the run in epochs")
    num_samples: int | None = Field(None, gt=0, description="length of the run in samples, instead of num_epochs")
    batch_size: int = Field(
        gt=0, le=2**24, description="samples per optimizer step, over all ranks and accumulated batches"
    )
    accumulation_steps: int = Field(1, gt=0, description="forward and backward passes per optimizer step")
    precision: Literal["float32", "bf16", "fp16"] = Field(
        "float32",
        description="float32, or mixed precision; with fp16, every step waits for a GPU once, to scale the loss",
    )
    channels_last: bool = Field(True, description="use the channels-last memory layout (faster)")
    ema_decay: float | None = Field(
        None, ge=0, lt=1, description="decay of a moving average of the weights, also evaluated; none: no average"
    )
    sync_batch_norm: bool = Field(False, description="batch norm statistics over all GPUs instead of per GPU")
    precise_bn_batches: int = Field(
        0,
        ge=0,
        le=100_000,
        description="batches of batch_size samples that recompute batch norm statistics before an evaluation; at most "
        "one pass over the training list",
    )
    compile: bool = Field(False, description="torch.compile the network (needs a C++ compiler on CPUs)")
    sharding: Sharding = Field("none", description="none: a full network on each rank; fsdp: a shard on each rank")
    activation_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass, block by block, to save memory"
    )
    gradient_compression: Compression = Field(
        "none", description="format in which ranks exchange gradients: none (as they are), bf16 or fp16"
    )
    non_finite: Literal["stop", "skip"] = Field(
        "stop", description="on a NaN or infinite loss or gradient: stop, or skip the step (syncs at every step)"
    )
    evaluate_every_epochs: Annotated[float, Field(ge=1e-6)] | Literal["auto"] = Field(
        1.0,
        description="epochs between evaluations; there is always one after the last step. auto: evaluations take about "
        "a tenth of the time, estimated from sample counts; at most one per epoch, at least five per run",
    )
    stop_after_evaluations_without_gain: int | None = Field(
        None,
        gt=0,
        description="end the run after this many evaluations in a row without a better score, or an equal one with a "
        "better tie-break, such as a smaller loss; the learning rate keeps the schedule of the whole run",
    )
    checkpoint_every_steps: int = Field(500, gt=0, description="optimizer steps between checkpoints")
    keep_checkpoints: int = Field(2, gt=0, description="how many of the newest checkpoints to keep")
    keep_every_steps: int | None = Field(
        None, gt=0, description="never delete checkpoints at multiples of this step; none: delete all old ones"
    )
    log_every_steps: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="optimizer steps between lines of metrics.jsonl; auto: 10, or fewer for 50 lines in a short run",
    )
    max_unreadable: float = Field(0.05, ge=0, le=1, description="stop if a larger fraction of samples is unreadable")

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
            raise ValueError("gradient_compression does not work with sharding=fsdp; set one of them to none")
        if self.compile and self.activation_checkpointing:
            raise ValueError("activation_checkpointing does not work with compile=true; set one of them to false")
        return self

    def num_steps(self, samples_per_epoch: int) -> int:
        """Optimizer steps of the run. Raises SettingsError if it has fewer samples than one batch."""
        num_samples = self.num_samples or self.num_epochs * samples_per_epoch
        if self.batch_size > max(1, num_samples):
            raise SettingsError(
                f"train.batch_size={self.batch_size} is more than the {num_samples:g} samples of the whole run "
                f"({samples_per_epoch} per epoch); lower it, or train longer"
            )
        return math.ceil(num_samples / self.batch_size - 1e-9)  # rounding must not make 1.1 epochs of 50 exceed 55

    def samples_per_forward(self, ranks: Ranks) -> int:
        """Samples per forward pass on one rank. Raises SettingsError if the batch does not divide evenly."""
        parts = self.accumulation_steps * ranks.num_ranks
        if self.batch_size % parts:
            raise SettingsError(
                f"train.batch_size={self.batch_size} cannot be divided evenly among {ranks.num_ranks} processes x "
                f"{self.accumulation_steps} accumulated batches; use a multiple of {parts}, for example "
                f"{math.ceil(self.batch_size / parts) * parts}"
            )
        return self.batch_size // parts
