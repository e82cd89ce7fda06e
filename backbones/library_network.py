"""Networks of other libraries with this suite's interface: what timm's and torchvision's share.

The library's network is `network`, and its entries keep their names after `network.`: files of the plain network load
as well as the wrapper's own.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

FINEST_STRIDE = 4
"""Maps of a finer stride are not levels of a pyramid."""
PREFIX = "network."
SIZE_OPTIONS = ("image_size", "img_size", "input_size")
"""What builders call the size of the images: EAT's and torchvision's ViTs, timm's, torchvision's MaxViT."""


class LibraryInput(NamedTuple):
    """What a library says about a network's input."""

    shape: tuple[int, ...]
    """[3, H, W] for images, [3, T, H, W] for clips."""
    mean: tuple[float, ...]
    """Of red, green and blue, from 0 to 1."""
    std: tuple[float, ...]
    crop_fraction: float | None
    """Side of the center crop relative to the resized image's shorter side; None: the whole image, made square."""


class LibraryNetwork(nn.Module):
    """A network of another library; see `models.Model` for its interface.

    Subclasses define its classifier, features and levels.

    Args:
        name: its name in `models.create_model`, for messages.
        network: the library's network.
        classifiers: names of its classifiers, modules in it.
    """

    cam_layer: str | None = None
    """The layer for Grad-CAM; None: that of the last features. If the classifier reads only a class token, no class
    depends on the last features of the patches."""
    is_channels_last: bool
    """Whether maps are [B, H, W, C] or [B, T, H, W, C] between its layers."""
    pyramid_channels: tuple[int, ...]
    pyramid_strides: tuple[int, ...] | tuple[tuple[int, int, int], ...]

    def __init__(self, name: str, network: nn.Module, classifiers: Sequence[str]):
        super().__init__()
        self.name, self.network = name, network
        self.classifier_names = tuple(f"{PREFIX}{name}." for name in classifiers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's: its own, or that of the library's plain network."""
        own = self.state_dict()
        if any(name in own for name in weights):
            weights = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
        return {PREFIX + name: tensor for name, tensor in self.adapt_plain(weights, resize).items()}

    def adapt_plain(self, weights: Mapping[str, torch.Tensor], resize: bool) -> Mapping[str, torch.Tensor]:
        """Converts a file's state dict to the plain network's."""
        return weights

    def tokens_to_map(self, tokens: torch.Tensor, size: tuple[int, int]) -> torch.Tensor | None:
        """The tokens [B, N, C] of images of `size` pixels as a map [B, C, h, w]; None if they do not belong to patches.

        Leading tokens without a patch are left out.
        """
        for stride in self.pyramid_strides:
            rows, columns = (side // stride for side in size) if isinstance(stride, int) else (0, 0)
            num_prefix = tokens.shape[1] - rows * columns
            if rows and num_prefix == self.num_prefix_tokens:
                return tokens[:, num_prefix:].mT.unflatten(2, (rows, columns))
        return None

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before those of the patches, such as the class token."""
        return getattr(self.network, "num_prefix_tokens", 0)

    def check_levels(self) -> None:
        """Raises ValueError if the network gives no maps."""
        if not self.pyramid_channels:
            raise ValueError(
                f"{self.name} gives no maps of its stages; choose a network that does, such as timm/resnet50"
            )


def shape_for(shape: tuple[int, ...], options: Mapping[str, Any]) -> tuple[int, ...]:
    """The input shape [..., H, W] of a network that is built with `options`, which may set the size of its images."""
    for option in SIZE_OPTIONS:
        if (size := options.get(option)) is not None:
            return (*shape[:-2], *((size, size) if isinstance(size, int) else size))
    return shape


def complete(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """Images [B, 3, H, W] with zeros on the right and at the bottom, so that H and W are multiples of `multiple`."""
    height, width = images.shape[2:]
    if height % multiple or width % multiple:
        return F.pad(images, (0, -width % multiple, 0, -height % multiple))
    return images


def crop_levels(maps: Sequence[torch.Tensor], size: Sequence[int], strides: Sequence[int]) -> list[torch.Tensor]:
    """Maps [B, C_i, H_i, W_i] without the parts for the zeros of `complete`: sides are those of `size` / stride_i."""
    sides = [[-(-side // stride) for side in size] for stride in strides]
    return [level[:, :, :rows, :columns] for level, (rows, columns) in zip(maps, sides, strict=True)]
