"""Maps against the golden files of dense prediction, which hold 24 values of each, evenly spaced."""

from typing import Any

import torch

NUM_VALUES = 24


def spaced_values(x: torch.Tensor) -> torch.Tensor:
    """24 values of `x`, evenly spaced from its first to its last."""
    positions = torch.linspace(0, x.numel() - 1, NUM_VALUES, dtype=torch.float64).round().long()
    return x.detach().double().flatten()[positions]


def check_map(name: str, actual: torch.Tensor, golden: dict[str, Any], tolerance: float = 2e-7) -> None:
    """Compares shape, mean, standard deviation and spaced values; `golden` has `shape`, `mean`, `std`, `values`."""
    assert list(actual.shape) == golden["shape"], name
    found = actual.detach().double()
    std = golden["std"]
    values = torch.tensor(golden["values"], dtype=torch.float64)
    rounding = 0.5 * 10 ** (values.abs().clamp(min=1e-300).log10().floor() - 7)
    assert ((spaced_values(found) - values).abs() - rounding).max() < tolerance * std, name
    assert abs(found.mean() - golden["mean"]) < tolerance * std, name
    assert abs(found.std(correction=0) - std) < tolerance * std, name
