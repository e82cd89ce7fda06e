"""Knowledge distillation: learns from the predictions of a teacher as well as from the labels.

Paper: Touvron et al., Training data-efficient image transformers & distillation through attention, ICML 2021,
https://arxiv.org/abs/2012.12877, section 4. A second classifier of the student, with its own query, learns the
teacher's predictions for the same augmented and mixed images: its best class (hard) or its probabilities (soft).
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
    """The teacher and its weight in the loss."""

    teacher: str = Field(description="a timm network, such as regnety_160")
    weights: str = Field(description="file of the teacher's weights, for the classes of the recipe")
    kind: Literal["hard", "soft"] = Field("hard", description="learn the teacher's best class or its probabilities")
    weight: float = Field(0.5, gt=0, le=1, description="weight of the teacher in the loss; the labels get the rest")
    temperature: float = Field(1.0, ge=0.01, le=1000, description="soft: logits are divided by it before the softmax")


def load_teacher(settings: DistillationSettings, num_classes: int, device: torch.device) -> nn.Module:
    """The teacher in eval mode. Raises SettingsError if timm does not have it or the weights do not fit."""
    import timm  # imported here: slow, and only recipes with a teacher need it

    if not timm.is_model(settings.teacher):
        hint = did_you_mean(settings.teacher, timm.list_models())
        raise SettingsError(f"loss.distillation.teacher: timm has no network {settings.teacher!r}{hint}")
    if not Path(settings.weights).is_file():  # checked before a large network is built
        raise SettingsError(f"loss.distillation.weights: file {settings.weights} does not exist")
    teacher = timm.create_model(settings.teacher, num_classes=num_classes)
    try:
        load_weights(teacher, settings.weights)
    except WeightsError as error:
        raise SettingsError(f"loss.distillation.weights: {error}") from error
    return teacher.to(device).eval().requires_grad_(False)


def distillation_loss(
    loss: torch.Tensor, logits: torch.Tensor, teacher_logits: torch.Tensor, settings: DistillationSettings
) -> torch.Tensor:
    """Combines `loss`, on the labels, with the loss of the distillation head's `logits` [B, C] on the teacher's."""
    if settings.kind == "hard":
        teacher_loss = F.cross_entropy(logits, teacher_logits.argmax(dim=1))
    else:
        student, teacher = ((values / settings.temperature).log_softmax(dim=1) for values in (logits, teacher_logits))
        divergence = F.kl_div(student, teacher, reduction="sum", log_target=True) * settings.temperature**2
        teacher_loss = divergence / student.numel()  # a mean over the classes as well, like the authors' code
    return (1 - settings.weight) * loss + settings.weight * teacher_loss
