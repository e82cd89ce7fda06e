"""Mixup and cutmix of images and of clips: two samples become one, and their labels with them.

Papers: mixup, https://arxiv.org/abs/1710.09412; CutMix, https://arxiv.org/abs/1905.04899. The operations are timm's;
they draw from NumPy's global generator, which the training loop seeds by the position in the run.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator

from settings import Settings


class MixSettings(Settings):
    """Mixup and cutmix: two training samples become one, and their labels with them."""

    mixup: float = Field(0.0, ge=0, description="alpha of mixup's beta distribution; 0: no mixup")
    cutmix: float = Field(0.0, ge=0, description="alpha of cutmix; 0: no cutmix")
    cutmix_minmax: tuple[float, float] | None = Field(None, description="least and most side of cutmix's box instead")
    probability: float = Field(1.0, gt=0, le=1, description="share of batches (of samples, by mode) that are mixed")
    switch_probability: float = Field(0.5, ge=0, le=1, description="share of cutmix, where both are on")
    mode: Literal["batch", "pair", "elem"] = Field("batch", description="what shares one draw: batch, pair, element")

    @property
    def is_on(self) -> bool:
        return bool(self.mixup or self.cutmix or self.cutmix_minmax)

    @model_validator(mode="after")
    def _check(self) -> "MixSettings":
        changed = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        if changed and not self.is_on:
            raise ValueError(f"without mixup or cutmix, {', '.join(changed)} does nothing; leave it out")
        return self


class Mixer:
    """Mixes the samples of a batch; the box that cutmix pastes is the same in all frames of a clip.

    Args:
        settings: `MixSettings` that are on.
        num_classes, label_smoothing: of the mixed labels.
    """

    def __init__(self, settings: MixSettings, num_classes: int, label_smoothing: float):
        from timm.data import Mixup  # takes seconds to import, which only recipes that mix should pay

        self.mixup = Mixup(
            settings.mixup,
            settings.cutmix,
            settings.cutmix_minmax,
            settings.probability,
            settings.switch_probability,
            settings.mode,
            label_smoothing=label_smoothing,
            num_classes=num_classes,
        )

    def __call__(self, x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float [B, 3, ..., H, W], labels [B] -> the same mixed, B even, and shares of the classes [B, num_classes].

        Labels may also be float [B, num_classes], what each sample has of each class: these are mixed in proportion.
        """
        flat = x.flatten(1, -3)  # [B, 3, T, H, W] -> [B, 3 * T, H, W]
        if labels.ndim == 1:
            mixed, shares = self.mixup(flat, labels)
            return mixed.view(x.shape), shares
        self.mixup.num_classes, self.mixup.label_smoothing = len(x), 0.0  # what is mixed of what: [B, B]
        mixed, parts = self.mixup(flat, torch.arange(len(x), device=x.device))
        return mixed.view(x.shape), parts.to(labels.dtype) @ labels
