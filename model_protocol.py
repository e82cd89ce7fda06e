"""The contracts between networks and the rest of the suite: tasks, heads and optimizers.

Networks satisfy them by having these attributes; none inherits from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Model(Protocol):
    """The contract of every network for images or clips.

    Shapes: images [B, 3, H, W] or clips [B, 3, T, H, W], normalized. In training a network may return more than logits
    (`backbones.TokenLabeling`, the two logits of a distilled network).
    """

    num_classes: int
    """Number of classes. 0: it has no classifier, and its forward pass returns the pooled features."""
    num_features: int
    """Channels of the pooled features [B, num_features]."""
    classifier_names: tuple[str, ...]
    """Prefixes of the classifier's entries in the state dict, which fine-tuning replaces."""
    pyramid_channels: tuple[int, ...]
    """Channels C_i of each map of the pyramid."""
    pyramid_strides: tuple[int, ...] | tuple[tuple[int, int, int], ...]
    """Pixels between two neighbors of each map; for clips, (frames, rows, columns) between them."""

    def __call__(self, x: torch.Tensor) -> Any:
        """Logits [B, num_classes]; with num_classes=0, pooled features [B, num_features]."""

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on top of the same features; 0 removes it."""

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The features that the classifier pools: a map [B, C, H', W'] or [B, C, T', H', W'], or tokens [B, N, C]."""

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """One map per stage, fine to coarse: [B, C_i, H_i, W_i], for clips [B, C_i, T_i, H_i, W_i].

        H and W are at least 32. For a classifier of EurNet they are at least 160 (debug sizes: 64), so that it can
        build its graphs; `models.create_pyramid` builds a EurNet that takes any. H_i is H / stride_i, rounded up if the
        network pads and down if it crops; the class says which.
        """

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's form; with `resize`, also from another image size."""


@runtime_checkable
class Pyramid(Protocol):
    """The contract of every backbone for dense prediction (`create_pyramid`), and all that necks and heads know of it.

    Every parameter contributes to the levels, as distributed training requires.
    """

    pyramid_channels: tuple[int, ...]
    """Channels C_i of each level."""
    pyramid_strides: tuple[int, ...] | tuple[tuple[int, int, int], ...]
    """Pixels between two neighbors of each level; if time is kept, (frames, rows, columns) between them."""
    classifier_names: tuple[str, ...]
    """Prefixes of entries that files have but this backbone lacks: a head, stages after the last level."""

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The same as `forward_pyramid`."""

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The levels, fine to coarse: see `Model.forward_pyramid`."""

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's form; with `resize`, also from a classifier's file."""


@runtime_checkable
class LayerDecay(Protocol):
    """A network with layers for learning rates that decay from the last to the first (`optimizer.layer_decay`)."""

    num_layers: int
    """Index of the last layer, the classifier's."""

    def layer_of(self, name: str) -> int:
        """The layer, 0 to `num_layers`, that a parameter of this name belongs to."""
