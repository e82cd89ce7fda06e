"""Checks of numbers from a user: sizes of networks, fractions, and indices of nodes and relations."""

from numbers import Integral, Real

import torch


def check_sizes(least: int = 1, **sizes: int) -> None:
    """Raises ValueError, with the name, for a value that is not a whole number or is below `least`."""
    for name, value in sizes.items():
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise ValueError(f"{name} must be a whole number, not {value!r}")
        if value < least:
            raise ValueError(f"{name} must be {least} or more, not {value}")


def check_shares(**shares: float) -> None:
    """Raises ValueError, with the name, for a fraction that is not at least 0 and below 1."""
    for name, value in shares.items():
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")


def check_flags(**flags: bool) -> None:
    """Raises ValueError, with the name, for a value that is neither True nor False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, not {value!r}")


def check_numbers(name: str, numbers: torch.Tensor, limit: int) -> None:
    """Raises ValueError for a number that is not from 0 to limit - 1."""
    if numbers.numel() and (numbers.min() < 0 or numbers.max() >= limit):
        wrong = numbers.min() if numbers.min() < 0 else numbers.max()
        raise ValueError(f"{name} contains {wrong.item()}, but only 0 to {limit - 1} exist")
