"""What networks offer to the rest of the suite: the contracts between models and tasks, heads and optimizers.

Networks satisfy them by their attributes; none inherits from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Model(Protocol):
    """What every network for images or clips offers: the contract between networks and the rest of the suite.

    Shapes: images [B, 3, H, W] or clips [B, 3, T, H, W], normalized. In training a network may return more than logits
    (`backbones.TokenLabeling`, the two logits of a distilled network).
    """

    num_classes: int
    """Classes that it tells apart. 0: it has no classifier, and its forward pass returns the pooled features."""
    num_features: int
    """Channels of the pooled features [B, num_features]."""
    classifier_names: tuple[str, ...]
    """How the classifier's entries in the state dict begin: what fine-tuning replaces."""
    pyramid_channels: tuple[int, ...]
    """Channels C_i of each map of the pyramid."""
    pyramid_strides: tuple[int, ...] | tuple[tuple[int, int, int], ...]
    """Pixels between two neighbors of each map; for clips, (frames, rows, columns) between them."""

    def __call__(self, x: torch.Tensor) -> Any:
        """Logits [B, num_classes]; with num_classes=0, pooled features [B, num_features]."""

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on top of the same features; 0 removes it."""

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """What the classifier pools: the last map, [B, C, H', W'] or [B, C, T', H', W'], or tokens [B, N, C]."""

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """One map per stage, fine to coarse: [B, C_i, H_i, W_i], for clips [B, C_i, T_i, H_i, W_i].

        H and W are any from 32 on; a classifier of EurNet takes those whose graphs it can build, from 160 on (the debug
        sizes from 64 on), and `models.create_pyramid` builds one that takes any. H_i is H / stride_i, rounded up where
        the network pads and down where it crops; the class says which.
        """

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """A file's state dict in this network's own form; with `resize`, also from another image size."""


@runtime_checkable
class Pyramid(Protocol):
    """What every backbone for dense prediction offers (`create_pyramid`): necks and heads know this and no family.

    Every parameter has a part in the levels, as distributed training requires.
    """

    pyramid_channels: tuple[int, ...]
    """Channels C_i of each level."""
    pyramid_strides: tuple[int, ...] | tuple[tuple[int, int, int], ...]
    """Pixels between two neighbors of each level; where time is kept, (frames, rows, columns) between them."""
    classifier_names: tuple[str, ...]
    """How the names of entries begin that files have and this backbone lacks: a head, stages after the last level."""

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The same as `forward_pyramid`."""

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The levels, fine to coarse: see `Model.forward_pyramid`."""

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """A file's state dict in this network's own form; with `resize`, also from a classifier's file."""


@runtime_checkable
class LayerDecay(Protocol):
    """A network whose layers may learn at rates that decay from the last to the first (`optimizer.layer_decay`)."""

    num_layers: int
    """Number of the last layer, the classifier's."""

    def layer_of(self, name: str) -> int:
        """The layer, 0 to `num_layers`, that a parameter of this name belongs to."""
