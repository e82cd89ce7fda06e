"""Learning from a teacher's predictions as well as from the labels.

Paper: Touvron et al., Training data-efficient image transformers & distillation through attention, ICML 2021,
https://arxiv.org/abs/2012.12877, section 4: a second classifier of the student, with a query of its own, learns what
the teacher says of the same augmented and mixed images; hard (its best class) or soft (its probabilities).
"""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from models import WeightsError, load_weights
from settings import Settings, SettingsError, did_you_mean


class DistillationSettings(Settings):
    """Who the teacher is, and how much it counts."""

    teacher: str = Field(description="a network of timm, such as regnety_160")
    weights: str = Field(description="file of its weights, for the classes of the recipe")
    kind: Literal["hard", "soft"] = Field("hard", description="learn its best class, or its probabilities")
    weight: float = Field(0.5, gt=0, le=1, description="share of the teacher in the loss; the labels have the rest")
    temperature: float = Field(1.0, gt=0, description="soft: what logits are divided by before the softmax")


def load_teacher(settings: DistillationSettings, num_classes: int, device: torch.device) -> nn.Module:
    """The teacher, ready to predict. Raises SettingsError if timm has none of that name or the weights do not fit."""
    import timm  # takes seconds, which only recipes with a teacher should pay

    if not timm.is_model(settings.teacher):
        hint = did_you_mean(settings.teacher, timm.list_models())
        raise SettingsError(f"loss.distillation.teacher: timm has no network {settings.teacher!r}{hint}")
    if not Path(settings.weights).is_file():  # said before a large network is built
        raise SettingsError(f"loss.distillation.weights: there is no file {settings.weights}")
    teacher = timm.create_model(settings.teacher, num_classes=num_classes)
    try:
        load_weights(teacher, settings.weights)
    except WeightsError as error:
        raise SettingsError(f"loss.distillation.weights: {error}") from error
    return teacher.to(device).eval().requires_grad_(False)


def distillation_loss(
    loss: torch.Tensor, logits: torch.Tensor, teacher_logits: torch.Tensor, settings: DistillationSettings
) -> torch.Tensor:
    """`loss` of the labels, joined with that of the second classifier's `logits` [B, C] and the teacher's [B, C]."""
    if settings.kind == "hard":
        of_teacher = F.cross_entropy(logits, teacher_logits.argmax(dim=1))
    else:
        student, teacher = ((values / settings.temperature).log_softmax(dim=1) for values in (logits, teacher_logits))
        divergence = F.kl_div(student, teacher, reduction="sum", log_target=True) * settings.temperature**2
        of_teacher = divergence / student.numel()  # the mean over the classes, too, as in the authors' code
    return (1 - settings.weight) * loss + settings.weight * of_teacher
