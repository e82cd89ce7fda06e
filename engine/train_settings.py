"""How long and how a network is trained: the section `train` of every recipe."""

import math
from typing import Literal

from pydantic import Field, model_validator

from engine.distributed import Ranks
from settings import Settings, SettingsError

Sharding = Literal["none", "fsdp"]
Compression = Literal["none", "bf16", "fp16"]


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
    sync_batch_norm: bool = Field(False, description="batch statistics over all GPUs instead of one GPU each")
    precise_bn_batches: int = Field(
        0, ge=0, description="batches of one step that refresh batch norm before evaluations"
    )
    compile: bool = Field(False, description="torch.compile the network (needs a C++ compiler on CPUs)")
    sharding: Sharding = Field("none", description="none: the whole network on each rank; fsdp: a part of it on each")
    activation_checkpointing: bool = Field(
        False, description="recompute the activations of blocks in the backward pass instead of keeping them"
    )
    gradient_compression: Compression = Field(
        "none", description="number format of the gradients that ranks exchange: none (their own), bf16, fp16"
    )
    non_finite: Literal["stop", "skip"] = Field(
        "stop", description="after a NaN or infinite loss or gradient: stop, or skip that step (which waits each step)"
    )
    evaluate_every_epochs: float = Field(
        1.0, gt=0, description="epochs between two evaluations; the last step is followed by one, too"
    )
    checkpoint_every_steps: int = Field(500, gt=0, description="optimizer steps between two checkpoints")
    keep_checkpoints: int = Field(2, gt=0, description="how many of the newest checkpoints are kept")
    keep_every_steps: int | None = Field(
        None, gt=0, description="checkpoints of its multiples are never removed; none: all are"
    )
    log_every_steps: int = Field(10, gt=0, description="optimizer steps between two lines of metrics.jsonl")
    max_unreadable: float = Field(0.05, ge=0, le=1, description="share of unreadable samples at which the run stops")

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
        """Samples of one forward pass on one rank; SettingsError if the batch cannot be divided evenly."""
        parts = self.accumulation_steps * ranks.num_ranks
        if self.batch_size % parts:
            raise SettingsError(
                f"train.batch_size={self.batch_size} cannot be divided among {ranks.num_ranks} processes x "
                f"{self.accumulation_steps} accumulated batches; take a multiple of {parts}, for example "
                f"{math.ceil(self.batch_size / parts) * parts}"
            )
        return self.batch_size // parts
