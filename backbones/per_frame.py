"""An image network on clips: it sees every frame by itself, and its logits are averaged."""

from collections.abc import Mapping

import torch
from torch import nn

PREFIX = "network."


class PerFrame(nn.Module):
    """Applies a network for images to each frame of clips.

    Files of the image network load into it, through `models.load_weights` and `load_pretrained`, as well as its own.

    Args:
        network: images [B, 3, H, W] to logits [B, num_classes].

    Raises:
        ValueError: no clips, or a network that gives more than logits (distilled, or with token labels).

    Shapes: clips [B, 3, T, H, W] to logits [B, num_classes], the mean over the T frames.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        if hasattr(network, "layer_of"):
            self.num_layers = network.num_layers
            self.layer_of = lambda name: network.layer_of(name.removeprefix(PREFIX))

    @property
    def model_name(self) -> str:
        return getattr(self.network, "model_name", type(self.network).__name__)

    @property
    def classifier_names(self) -> tuple[str, ...]:
        return tuple(PREFIX + name for name in self.network.classifier_names)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 5:
            raise ValueError(f"clips are [B, 3, T, H, W], not {list(x.shape)}")
        frames = x.transpose(1, 2).flatten(0, 1)  # [B, 3, T, H, W] -> [B, T, 3, H, W] -> [B * T, 3, H, W]
        logits = self.network(frames.contiguous(memory_format=torch.channels_last))
        if not isinstance(logits, torch.Tensor):
            raise ValueError(
                f"{self.model_name} has more outputs than logits in training; clips need its plain variant"
            )
        return logits.unflatten(0, (len(x), -1)).mean(1)  # [B * T, K] -> [B, T, K] -> [B, K]

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """A file's state dict, of the image network or of this one, as this one's."""
        if all(name.startswith(PREFIX) for name in weights):
            weights = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
        if hasattr(self.network, "adapt_weights"):
            weights = self.network.adapt_weights(weights, resize=resize)
        return {PREFIX + name: tensor for name, tensor in weights.items()}
