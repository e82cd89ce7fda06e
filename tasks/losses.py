"""Classification losses and their settings."""

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator

from backbones import TokenLabeling
from settings import Settings
from tasks.distillation import DistillationSettings


class LossSettings(Settings):
    """The loss."""

    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="fraction of the target that is spread evenly over all classes"
    )


class ClipLossSettings(LossSettings):
    """The loss for clips."""

    multi_label: bool = Field(
        False, description="videos may have several classes: binary cross entropy per class, scored by mAP"
    )

    @model_validator(mode="after")
    def _nothing_to_smooth(self):
        if self.multi_label and self.label_smoothing:
            raise ValueError("label_smoothing has no effect with multi_label; remove it")
        return self


class ImageLossSettings(LossSettings):
    """The loss for images."""

    token_weight: float = Field(
        0.5, ge=0, description="networks for token labels: weight of the loss per cell; the loss per image has weight 1"
    )
    distillation: DistillationSettings | None = Field(None, description="a teacher to learn from besides the labels")


def cross_entropy(logits: torch.Tensor, target: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Mean cross entropy of `logits` [B, C] with labels [B], smoothed, or with class probabilities [B, C]."""
    if target.dim() == 2:
        return F.cross_entropy(logits, target)
    return F.cross_entropy(logits, target, label_smoothing=label_smoothing)


def class_probabilities(labels: torch.Tensor, num_classes: int, label_smoothing: float) -> torch.Tensor:
    """Labels [B] -> smoothed class probabilities [B, C]. Probabilities are returned unchanged."""
    if labels.dim() == 2:
        return labels
    return F.one_hot(labels, num_classes) * (1 - label_smoothing) + label_smoothing / num_classes


def token_labeling_loss(
    outputs: TokenLabeling, image_targets: torch.Tensor, cell_targets: torch.Tensor | None, token_weight: float
) -> torch.Tensor:
    """Mean cross entropy of the mixed images plus `token_weight` times that of their cells (arXiv 2104.10858, eq. 4).

    Args:
        image_targets: [B, C] class probabilities of each image, before the network mixes it with its partner.
        cell_targets: [B, N, C] class probabilities of each cell; None: every cell has the target of its image.
    """
    num_cells, box = outputs.token_logits.shape[1], outputs.box
    if cell_targets is None:
        cell_targets = image_targets[:, None].expand(-1, num_cells, -1)
    swapped = (box.bottom - box.top) * (box.right - box.left) / num_cells  # fraction of cells from the partner
    mixed = (1 - swapped) * image_targets + swapped * image_targets.flip(0)
    cell_loss = F.cross_entropy(outputs.token_logits.float().flatten(0, 1), cell_targets.flatten(0, 1))
    return F.cross_entropy(outputs.logits.float(), mixed) + token_weight * cell_loss
