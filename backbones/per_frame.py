"""An image network on clips: it sees every frame separately; its logits are averaged, its maps are not."""

from typing import Any

import torch
from einops import rearrange
from torch import nn

from backbones.prefixed import prefixed


class PerFrame(nn.Module):
    """Applies a network for images to each frame of clips.

    It loads files of the image network, through `models.load_weights` and `load_pretrained`, as well as its own.

    Args:
        network: images [B, 3, H, W] to logits [B, num_classes], or a `models.Pyramid`.

    Shapes: clips [B, 3, T, H, W] to logits [B, num_classes], the mean over the T frames; of a pyramid, to a list of
    maps [B, C_i, T, H_i, W_i].

    Raises:
        ValueError: the input is not a clip, or the network returns more than logits (distilled, or with token labels).
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        prefixed(self, "network.")

    @property
    def model_name(self) -> str:
        return getattr(self.network, "model_name", type(self.network).__name__)

    @property
    def model_options(self) -> dict[str, Any]:
        return getattr(self.network, "model_options", {})

    @property
    def num_classes(self) -> int:
        return self.network.num_classes

    @property
    def num_features(self) -> int:
        return self.network.num_features

    @property
    def pyramid_channels(self) -> tuple[int, ...]:
        return self.network.pyramid_channels

    @property
    def pyramid_strides(self) -> tuple[tuple[int, int, int], ...]:
        """Over time, height and width: no frame is left out."""
        return tuple((1, stride, stride) for stride in self.network.pyramid_strides)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on top of the same features; 0 removes it."""
        self.network.reset_classifier(num_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The image network's features for each frame: [B, C, T, H', W'], or tokens [B, T, N, C]."""
        features = self.network.forward_features(_frames(x))
        layout = "(b t) c h w -> b c t h w" if features.dim() == 4 else "(b t) n c -> b t n c"
        return rearrange(features, layout, t=x.shape[2])

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Clips [B, 3, T, H, W] to maps [B, C_i, T, H_i, W_i], those of the image network for each frame."""
        maps = self.network.forward_pyramid(_frames(x))
        return _to_clips(maps, x.shape[2])

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        logits = self.network(_frames(x))
        if isinstance(logits, list):
            return _to_clips(logits, x.shape[2])
        if not isinstance(logits, torch.Tensor):
            raise ValueError(
                f"{self.model_name} has more outputs than logits in training; clips need its plain variant"
            )
        return logits.unflatten(0, (x.shape[0], x.shape[2])).mean(1)  # [B * T, K] -> [B, T, K] -> [B, K]


def _to_clips(maps: list[torch.Tensor], num_frames: int) -> list[torch.Tensor]:
    return [rearrange(level, "(b t) c h w -> b c t h w", t=num_frames) for level in maps]


def _frames(x: torch.Tensor) -> torch.Tensor:
    """[B, 3, T, H, W] -> [B * T, 3, H, W], channels-last in memory."""
    if x.dim() != 5:
        raise ValueError(f"clips are [B, 3, T, H, W], not {list(x.shape)}")
    return rearrange(x, "b rgb t h w -> (b t) rgb h w").contiguous(memory_format=torch.channels_last)
