"""A network for clips as the backbone of heads for images: its maps are averaged over time."""

import torch
from torch import nn

from backbones.prefixed import prefixed


class TimeAveraged(nn.Module):
    """The maps of a clip network, each averaged over time after the network has processed the clip.

    It loads files of the clip network, through `models.load_weights` and `load_pretrained`, as well as its own.

    Args:
        network: clips [B, 3, T, H, W] to maps [B, C_i, T_i, H_i, W_i], in `forward_pyramid`.

    Shapes: clips [B, 3, T, H, W], normalized, to a list of maps [B, C_i, H_i, W_i].
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        prefixed(self, "network.")

    @property
    def unit_names(self) -> list[str]:
        return [f"network.{name}" for name in getattr(self.network, "unit_names", ())]

    @property
    def pyramid_channels(self) -> tuple[int, ...]:
        return self.network.pyramid_channels

    @property
    def pyramid_strides(self) -> tuple[int, ...]:
        """Pixels between two neighbors of each map."""
        return tuple(stride[-1] for stride in self.network.pyramid_strides)

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Clips [B, 3, T, H, W] to maps [B, C_i, H_i, W_i], fine to coarse."""
        return [level.mean(2) for level in self.network.forward_pyramid(x)]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.forward_pyramid(x)
