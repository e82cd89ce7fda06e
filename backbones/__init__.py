"""Backbones for images: networks from one line of work, under the names and weights of their authors."""

from backbones.eat import (
    EAT,
    eat_base,
    eat_base_384,
    eat_debug,
    eat_medium,
    eat_small,
    eat_small_384,
    eat_small_dist,
    eat_tiny,
    eat_tiny_384,
    eat_tiny_dist,
)

__all__ = [
    "EAT",
    "eat_base",
    "eat_base_384",
    "eat_debug",
    "eat_medium",
    "eat_small",
    "eat_small_384",
    "eat_small_dist",
    "eat_tiny",
    "eat_tiny_384",
    "eat_tiny_dist",
]
