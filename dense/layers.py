"""The layers of necks and heads: a convolution, its norm, an activation; and the base class of segmentation heads.

Parameter names are those of the ConvModule of OpenMMLab's mmcv, so that released files load: `conv` and `bn` (`gn` for
group norm).
"""

import contextlib
import operator
from collections.abc import Callable
from math import gcd
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

NORMS: dict[str, tuple[str, Callable[[int], nn.Module]]] = {
    "batch": ("bn", nn.BatchNorm2d),
    "group": ("gn", lambda num_channels: nn.GroupNorm(gcd(32, max(1, num_channels // 8)), num_channels)),
    "frozen": ("bn", FrozenBatchNorm2d),
}
"""Name -> (name of the entry, builder from a number of channels). A group has eight channels or more: with one channel,
the normalized 1 x 1 maps that UPerNet pools would always be 0."""


def build_norm(norm: str, num_channels: int) -> tuple[str, nn.Module]:
    """Name of the entry, and the norm for maps of this many channels.

    Raises:
        ValueError: there is no such norm.
    """
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; expected one of {', '.join(NORMS)}")
    entry, build = NORMS[norm]
    return entry, build(num_channels)


def whole(name: str, value: Any, least: int = 1) -> int:
    """`value`, which may be NumPy's. Raises ValueError unless it is a whole number of at least `least`."""
    with contextlib.suppress(TypeError):
        if not isinstance(value, bool) and operator.index(value) >= least:
            return operator.index(value)
    raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}")


def classifier(channels: int, num_classes: int) -> nn.Conv2d:
    """The 1 x 1 convolution to logits, with small initial weights and no bias."""
    conv = nn.Conv2d(channels, num_classes, kernel_size=1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)
    return conv


class PixelHead(nn.Module):
    """A segmentation head: levels to logits. Its classifier is the convolution `classifier_names[0]`."""

    classifier_names: ClassVar[tuple[str, ...]] = ("conv_seg.",)

    @property
    def num_classes(self) -> int:
        return self.get_submodule(self.classifier_names[0].removesuffix(".")).out_channels

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on the same maps."""
        name = self.classifier_names[0].removesuffix(".")
        old = self.get_submodule(name)
        self.set_submodule(name, classifier(old.in_channels, num_classes).to(old.weight))


class ConvNormAct(nn.Module):
    """Convolution, norm and ReLU: [B, num_in, H, W] -> [B, num_out, H, W].

    Args:
        num_in, num_out: channels.
        kernel_size: odd; zeros around the map keep its size.
        norm: one of `NORMS`; None: no norm, and the convolution has a bias.
        activation: False: no ReLU.
    """

    def __init__(
        self, num_in: int, num_out: int, kernel_size: int = 1, norm: str | None = None, activation: bool = True
    ):
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, kernel_size, padding=kernel_size // 2, bias=norm is None)
        self.norm_entry = None
        if norm is not None:
            self.norm_entry, module = build_norm(norm, num_out)
            self.add_module(self.norm_entry, module)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if self.norm_entry is not None:
            x = self.get_submodule(self.norm_entry)(x)
        return F.relu(x, inplace=True) if self.activation else x
