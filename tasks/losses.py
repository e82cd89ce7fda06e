"""Losses of classification beyond plain cross entropy."""

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator

from backbones import TokenLabeling
from settings import Settings
from tasks.distillation import DistillationSettings


class LossSettings(Settings):
    """What is minimized."""

    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the label that all classes get alike")


class ClipLossSettings(LossSettings):
    """What is minimized, for clips."""

    multi_label: bool = Field(
        False, description="videos may have several classes: binary cross entropy of each class, scored by mAP"
    )

    @model_validator(mode="after")
    def _nothing_to_smooth(self):
        if self.multi_label and self.label_smoothing:
            raise ValueError("with multi_label, label_smoothing does nothing; leave it out")
        return self


class ImageLossSettings(LossSettings):
    """What is minimized, for images."""

    token_weight: float = Field(
        0.5, ge=0, description="weight of the loss of the cells, of a network for token labels; the image's has 1"
    )
    distillation: DistillationSettings | None = Field(None, description="a teacher to learn from besides the labels")


def cross_entropy(logits: torch.Tensor, target: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Mean cross entropy of `logits` [B, C] with labels [B], smoothed, or with shares of the classes [B, C]."""
    if target.dim() == 2:
        return F.cross_entropy(logits, target)
    return F.cross_entropy(logits, target, label_smoothing=label_smoothing)


def shares(labels: torch.Tensor, num_classes: int, label_smoothing: float) -> torch.Tensor:
    """Labels [B] as smoothed shares of the classes [B, C]; shares stay as they are."""
    if labels.dim() == 2:
        return labels
    return F.one_hot(labels, num_classes) * (1 - label_smoothing) + label_smoothing / num_classes


def token_labeling_loss(
    outputs: TokenLabeling, of_image: torch.Tensor, of_cells: torch.Tensor | None, token_weight: float
) -> torch.Tensor:
    """Mean cross entropy of the mixed images, and `token_weight` times that of their cells (arXiv 2104.10858, eq. 4).

    Args:
        of_image: [B, C] shares of the classes in each image before the network mixed it with its partner.
        of_cells: [B, N, C] the same for each cell; None: the image's for all its cells.
    """
    num_cells, box = outputs.token_logits.shape[1], outputs.box
    if of_cells is None:
        of_cells = of_image[:, None].expand(-1, num_cells, -1)
    swapped = (box.bottom - box.top) * (box.right - box.left) / num_cells
    mixed = (1 - swapped) * of_image + swapped * of_image.flip(0)
    cells = F.cross_entropy(outputs.token_logits.float().flatten(0, 1), of_cells.flatten(0, 1))
    return F.cross_entropy(outputs.logits.float(), mixed) + token_weight * cells
