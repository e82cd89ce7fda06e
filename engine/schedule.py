"""The learning rate as a pure function of the step, so a checkpoint does not have to store it.

The step schedule and its warm-up follow the GloRe authors' Kinetics runs (facebookresearch/GloRe,
train/lr_scheduler.py): steps count from 1, the warm-up is linear from a tenth of the rate, and the rate drops at the
first step after `drop_at_samples` samples. The cosine schedule follows SGDR (arXiv 1608.03983) in the two variants that
image recipes use: the curve starts after the warm-up, or at the first step with the warm-up in place of its beginning.
The polynomial schedule is DeepLab's (arXiv 1606.00915), (1 - steps done / steps) ** power, which segmentors train with;
as in their authors' runs, the warm-up multiplies it.
"""

import logging
import math
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from settings import Settings

log = logging.getLogger(__name__)


class Milestones(NamedTuple):
    """The lengths of a schedule in optimizer steps."""

    warmup: int = 0
    drops: tuple[int, ...] = ()
    """The last step before each drop."""
    epoch: float = 1.0
    cooldown: int = 0


class ScheduleSettings(Settings):
    """How the learning rate changes over a run."""

    name: Literal["step", "cosine", "poly", "constant"] = Field(
        "cosine", description="shape of the curve after the warm-up"
    )
    warmup_steps: int = Field(0, ge=0, description="optimizer steps of linear warm-up")
    warmup_epochs: float = Field(0, ge=0, description="epochs of linear warm-up, instead of warmup_steps")
    warmup_start: float = Field(0.1, ge=0, le=1, description="fraction of the rate at the start of the warm-up")
    warmup_prefix: bool = Field(
        True,
        description="cosine: the curve starts after the warm-up; false: at step 1, and the warm-up replaces its start",
    )
    drop_at_samples: list[int] = Field([], description="step: drop the rate after these numbers of samples")
    drop_at_epochs: list[float] = Field([], description="step: drop the rate after these epochs, instead of samples")
    drop_factor: float = Field(0.1, gt=0, lt=1, description="step: factor on the rate at each drop")
    power: float = Field(1.0, gt=0, le=10, description="poly: exponent of the curve; 1: a straight line")
    final_fraction: float = Field(
        0.0, ge=0, le=1, description="cosine and poly: final rate, as a fraction of the peak rate"
    )
    cooldown_epochs: float = Field(0, ge=0, description="cosine: epochs at the final rate, at the end of the run")
    per_epoch: bool = Field(False, description="change the rate only between epochs, as timm's schedules do")

    @model_validator(mode="after")
    def _settings_belong_together(self):
        drops = self.drop_at_samples or self.drop_at_epochs
        if (self.name == "step") != bool(drops):
            raise ValueError("the step schedule needs drop_at_samples or drop_at_epochs; no other schedule takes them")
        own = {
            "step": {"drop_factor"},
            "cosine": {"final_fraction", "cooldown_epochs", "warmup_prefix"},
            "poly": {"power", "final_fraction"},
        }
        for name in sorted(set().union(*own.values()) - own.get(self.name, set())):
            default = type(self).model_fields[name].default
            if getattr(self, name) != default:
                raise ValueError(
                    f"{name} does not apply to the schedule {self.name}; remove it, or override it with "
                    f"schedule.{name}={str(default).lower()}"
                )
        if self.drop_at_samples and self.drop_at_epochs:
            raise ValueError("give either drop_at_samples or drop_at_epochs, not both")
        if self.warmup_steps and self.warmup_epochs:
            raise ValueError("give either warmup_steps or warmup_epochs, not both")
        if list(drops) != sorted(set(drops)) or any(at <= 0 for at in drops):
            raise ValueError(f"drops must be positive and increasing, got {drops}")
        return self

    def milestones(self, batch_size: int, samples_per_epoch: int) -> Milestones:
        """The lengths of the schedule in steps of `batch_size` samples."""
        epoch = samples_per_epoch / batch_size
        samples = self.drop_at_samples or [round(epochs * samples_per_epoch) for epochs in self.drop_at_epochs]
        return Milestones(
            warmup=self.warmup_steps or round(self.warmup_epochs * epoch),
            drops=tuple(int(at / batch_size) for at in samples),
            epoch=epoch,
            cooldown=round(self.cooldown_epochs * epoch),
        )


def learning_rate(step: int, peak: float, settings: ScheduleSettings, num_steps: int, milestones: Milestones) -> float:
    """The learning rate of optimizer step `step` (1 to `num_steps`)."""
    at, num_done = float(step), float(step - 1)
    warmup = milestones.warmup
    is_warming = at < warmup
    if settings.per_epoch:  # epochs need not be whole numbers of steps, and milestones are rounded to them
        at = num_done = math.floor(num_done / milestones.epoch + 1e-9) * milestones.epoch
        is_warming = at < warmup - 0.5
    factor = 1.0
    if is_warming:
        factor = settings.warmup_start + (1 - settings.warmup_start) * at / warmup
    if settings.name == "step":
        factor *= settings.drop_factor ** sum(num_done + 1e-6 >= drop for drop in milestones.drops)
    elif settings.name == "poly":
        left = (1 - num_done / num_steps) ** settings.power
        factor *= settings.final_fraction + (1 - settings.final_fraction) * left
    elif settings.name == "cosine" and not is_warming:
        start = warmup if settings.warmup_prefix else 0
        progress = min(1.0, max(0.0, at - start) / max(1, num_steps - milestones.cooldown - start))
        factor = settings.final_fraction + (1 - settings.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
    return peak * factor


def warn_of_length(settings: ScheduleSettings, milestones: Milestones, num_steps: int) -> None:
    """Warns about the parts of a schedule that have no effect in a run of `num_steps` steps, or that do not fit it."""
    warmup, drops, epoch, cooldown = milestones
    if warmup + cooldown > num_steps:
        log.warning(
            "schedule: the warm-up of %d steps and the cooldown of %d are longer than the run of %d steps, so the "
            "learning rate does not reach optimizer.lr",
            *(warmup, cooldown, num_steps),
        )
    else:
        highest = max(
            learning_rate(step, 1.0, settings, num_steps, milestones)
            for step in {1, warmup, warmup + 1, math.ceil(math.ceil(warmup / epoch) * epoch) + 1}  # and at a new epoch
            if 1 <= step <= num_steps
        )
        if highest < 0.5:
            log.warning(
                "schedule: in a run of %d steps the learning rate is at most %.2g of optimizer.lr", num_steps, highest
            )
    if missed := [drop for drop in drops if drop >= num_steps]:
        log.warning("schedule: the run of %d steps ends before %d of its %d drops of the learning rate",
                    num_steps, len(missed), len(drops))  # fmt: skip
    if not warmup and settings.warmup_start != ScheduleSettings.model_fields["warmup_start"].default:
        log.warning("schedule.warmup_start has no effect without a warm-up")
