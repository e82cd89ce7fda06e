"""Mixup and cutmix of images and clips: two samples become one, and so do their labels.

Papers: mixup, https://arxiv.org/abs/1710.09412; CutMix, https://arxiv.org/abs/1905.04899. The operations are timm's;
they draw from NumPy's global generator, which the trainer seeds by the position in the run.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator

from settings import Settings

SMALLEST_ALPHA = 1e-3  # of a beta distribution that NumPy can draw from


class MixSettings(Settings):
    """Mixup and cutmix: two training samples become one, and so do their labels."""

    mixup: float = Field(0.0, ge=0, description="alpha of mixup's beta distribution; 0: no mixup")
    cutmix: float = Field(0.0, ge=0, description="alpha of cutmix; 0: no cutmix")
    cutmix_minmax: tuple[float, float] | None = Field(
        None, description="instead of alpha, smallest and largest side of cutmix's box, as fractions of the image's"
    )
    probability: float = Field(
        1.0, gt=0, le=1, description="fraction of batches (pairs, elements; see mode) that are mixed"
    )
    switch_probability: float = Field(0.5, ge=0, le=1, description="fraction of cutmix if both are on, from 0 to 1")
    mode: Literal["batch", "pair", "elem"] = Field(
        "batch", description="which samples have a common random draw: batch, pair, elem"
    )

    @property
    def is_on(self) -> bool:
        return bool(self.mixup or self.cutmix or self.cutmix_minmax)

    def check_side(self, side: int) -> None:
        """Raises ValueError if no whole number of pixels fits cutmix's range in inputs of this side."""
        lowest, highest = self.cutmix_minmax or (0, 1)
        if int(side * lowest) >= int(side * highest):
            raise ValueError(
                f"cutmix_minmax ({lowest:g}, {highest:g}) leaves no choice of a box in {side} pixels; widen the range"
            )

    @model_validator(mode="after")
    def _check(self) -> "MixSettings":
        for name in ("mixup", "cutmix"):
            if 0 < getattr(self, name) < SMALLEST_ALPHA:
                raise ValueError(f"{name} is {getattr(self, name):g}; expected 0, or {SMALLEST_ALPHA:g} or more")
        lowest, highest = self.cutmix_minmax or (0, 1)
        if not 0 <= lowest < highest <= 1:
            raise ValueError(f"cutmix_minmax is ({lowest:g}, {highest:g}); expected two fractions, the lower one first")
        changed = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        if changed and not self.is_on:
            raise ValueError(f"without mixup or cutmix, {', '.join(changed)} does nothing; remove it")
        return self


class Mixer:
    """Mixes the samples of a batch; the box that cutmix pastes is the same in all frames of a clip.

    Args:
        settings: `MixSettings` with mixup or cutmix on.
        num_classes, label_smoothing: of the mixed labels.
    """

    def __init__(self, settings: MixSettings, num_classes: int, label_smoothing: float):
        from timm.data import Mixup  # takes seconds to import; only recipes that mix pay for it

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
        """float [B, 3, ..., H, W], B even, labels [B] -> the mixed samples, and their class weights [B, num_classes].

        Labels may also be float [B, num_classes], the weight of each class in each sample; they are mixed likewise.
        """
        flat = x.flatten(1, -3)  # [B, 3, T, H, W] -> [B, 3 * T, H, W]
        if labels.ndim == 1:
            mixed, shares = self.mixup(flat, labels)
            return mixed.view(x.shape), shares
        self.mixup.num_classes, self.mixup.label_smoothing = len(x), 0.0  # which samples are mixed: [B, B]
        mixed, parts = self.mixup(flat, torch.arange(len(x), device=x.device))
        return mixed.view(x.shape), parts.to(labels.dtype) @ labels
