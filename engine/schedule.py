"""The learning rate as a pure function of the step: nothing to save, nothing to restore.

The step schedule and its warm-up are those of the authors' Kinetics runs (facebookresearch/GloRe,
train/lr_scheduler.py): step n counts from 1, the warm-up is linear from a tenth of the rate, and the rate drops at
the first step after `drop_at_samples` samples.
"""

import math
from typing import Literal

from pydantic import Field, model_validator

from engine.settings import Settings


class ScheduleSettings(Settings):
    """How the learning rate changes over a run."""

    name: Literal["step", "cosine", "constant"] = Field("cosine", description="shape of the curve after the warm-up")
    warmup_steps: int = Field(0, ge=0, description="optimizer steps of linear warm-up")
    warmup_start: float = Field(0.1, ge=0, le=1, description="fraction of the rate at which the warm-up starts")
    drop_at_samples: list[int] = Field([], description="step: samples seen when the rate drops")
    drop_at_epochs: list[float] = Field([], description="step: epochs seen when the rate drops, instead of samples")
    drop_factor: float = Field(0.1, gt=0, lt=1, description="step: factor on the rate at each drop")
    final_fraction: float = Field(0.0, ge=0, le=1, description="cosine: fraction of the rate at the end")

    @model_validator(mode="after")
    def _drops_belong_to_step(self):
        drops = self.drop_at_samples or self.drop_at_epochs
        if (self.name == "step") != bool(drops):
            raise ValueError("schedule step needs drop_at_samples or drop_at_epochs, the other schedules take neither")
        foreign = {"step": ("final_fraction",), "cosine": ("drop_factor",)}.get(
            self.name, ("final_fraction", "drop_factor")
        )
        for name in foreign:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is no setting of the schedule {self.name}; leave it out")
        if self.drop_at_samples and self.drop_at_epochs:
            raise ValueError("give either drop_at_samples or drop_at_epochs, not both")
        if list(drops) != sorted(set(drops)) or any(at <= 0 for at in drops):
            raise ValueError(f"drops must be positive and increasing, got {drops}")
        return self

    def drops_in_steps(self, batch_size: int, samples_per_epoch: int) -> list[int]:
        """The last step before each drop of the rate."""
        samples = self.drop_at_samples or [round(epochs * samples_per_epoch) for epochs in self.drop_at_epochs]
        return [int(at / batch_size) for at in samples]


def learning_rate(
    step: int, peak: float, settings: ScheduleSettings, num_steps: int, drops: list[int] | tuple[int, ...] = ()
) -> float:
    """The rate of optimizer step `step` (1 ... `num_steps`); `drops` from `ScheduleSettings.drops_in_steps`."""
    warmup = settings.warmup_steps
    factor = 1.0
    if step < warmup:
        factor = settings.warmup_start + (1 - settings.warmup_start) * step / warmup
    if settings.name == "step":
        factor *= settings.drop_factor ** sum(step > drop for drop in drops)
    elif settings.name == "cosine" and step >= warmup:
        progress = (step - warmup) / max(1, num_steps - warmup)
        factor = settings.final_fraction + (1 - settings.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
    return peak * factor
