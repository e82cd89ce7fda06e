"""The learning rate as a pure function of the step: nothing to save, nothing to restore.

The step schedule and its warm-up are those of the authors' Kinetics runs (facebookresearch/GloRe,
train/lr_scheduler.py): step n counts from 1, the warm-up is linear from a tenth of the rate, and the rate drops at
the first step after `drop_at_samples` samples. The cosine is that of SGDR (arXiv 1608.03983), in the two forms that
image recipes use: it starts after the warm-up, or at the first step, under the warm-up.
"""

import math
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from settings import Settings


class Milestones(NamedTuple):
    """A schedule's lengths in optimizer steps."""

    warmup: int = 0
    drops: tuple[int, ...] = ()
    """The last step before each drop of the rate."""
    epoch: float = 1.0
    cooldown: int = 0


class ScheduleSettings(Settings):
    """How the learning rate changes over a run."""

    name: Literal["step", "cosine", "constant"] = Field("cosine", description="shape of the curve after the warm-up")
    warmup_steps: int = Field(0, ge=0, description="optimizer steps of linear warm-up")
    warmup_epochs: float = Field(0, ge=0, description="the same in epochs, instead of steps")
    warmup_start: float = Field(0.1, ge=0, le=1, description="fraction of the rate at which the warm-up starts")
    warmup_prefix: bool = Field(
        True,
        description="cosine: the curve starts after the warm-up; false: at the first step, the warm-up cuts it off",
    )
    drop_at_samples: list[int] = Field([], description="step: samples seen when the rate drops")
    drop_at_epochs: list[float] = Field([], description="step: epochs seen when the rate drops, instead of samples")
    drop_factor: float = Field(0.1, gt=0, lt=1, description="step: factor on the rate at each drop")
    final_fraction: float = Field(0.0, ge=0, le=1, description="cosine: fraction of the rate at the end")
    cooldown_epochs: float = Field(0, ge=0, description="cosine: last epochs of the run that stay at the final rate")
    per_epoch: bool = Field(False, description="the rate changes between epochs only, as in timm's schedules")

    @model_validator(mode="after")
    def _settings_belong_together(self):
        drops = self.drop_at_samples or self.drop_at_epochs
        if (self.name == "step") != bool(drops):
            raise ValueError("schedule step needs drop_at_samples or drop_at_epochs, the other schedules take neither")
        cosine = ("final_fraction", "cooldown_epochs", "warmup_prefix")
        foreign = {"step": cosine, "cosine": ("drop_factor",)}.get(self.name, (*cosine, "drop_factor"))
        for name in foreign:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is no setting of the schedule {self.name}; leave it out")
        if self.drop_at_samples and self.drop_at_epochs:
            raise ValueError("give either drop_at_samples or drop_at_epochs, not both")
        if self.warmup_steps and self.warmup_epochs:
            raise ValueError("give either warmup_steps or warmup_epochs, not both")
        if list(drops) != sorted(set(drops)) or any(at <= 0 for at in drops):
            raise ValueError(f"drops must be positive and increasing, got {drops}")
        return self

    def milestones(self, batch_size: int, samples_per_epoch: int) -> Milestones:
        """The schedule's lengths in steps of `batch_size` samples."""
        epoch = samples_per_epoch / batch_size
        samples = self.drop_at_samples or [round(epochs * samples_per_epoch) for epochs in self.drop_at_epochs]
        return Milestones(
            warmup=self.warmup_steps or round(self.warmup_epochs * epoch),
            drops=tuple(int(at / batch_size) for at in samples),
            epoch=epoch,
            cooldown=round(self.cooldown_epochs * epoch),
        )


def learning_rate(step: int, peak: float, settings: ScheduleSettings, num_steps: int, milestones: Milestones) -> float:
    """The rate of optimizer step `step` (1 ... `num_steps`)."""
    at: float = step
    if settings.per_epoch:
        at = math.floor((step - 1) / milestones.epoch + 1e-9) * milestones.epoch
    warmup = milestones.warmup
    factor = 1.0
    if at < warmup:
        factor = settings.warmup_start + (1 - settings.warmup_start) * at / warmup
    if settings.name == "step":
        factor *= settings.drop_factor ** sum(at > drop for drop in milestones.drops)
    elif settings.name == "cosine" and at >= warmup:
        start = warmup if settings.warmup_prefix else 0
        progress = min(1.0, (at - start) / max(1, num_steps - milestones.cooldown - start))
        factor = settings.final_fraction + (1 - settings.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
    return peak * factor
