"""Weights and inputs for golden tests: every value is a function of its name and shape, so no checkpoint is needed.

The golden files under test/golden hold what the authors' networks give for these. The draws come from NumPy's frozen
`RandomState`, whose stream never changes.
"""

import json
import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"


def read_golden(name: str) -> dict[str, Any]:
    """The golden file `name`, without its suffix."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def tensor_for(name: str, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The value of the state-dict entry `name`, by its name in the authors' network.

    Batch counters are 0, running variances uniform in [0.5, 1.5], biases and means normal times 0.1, other vectors
    (scales of norms) 1 plus that, and kernels normal divided by the root of their fan-in.
    """
    shape = tuple(shape)
    random = np.random.RandomState(zlib.crc32(name.encode()))
    leaf = name.split(".")[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.long)
    if leaf == "running_var":
        return torch.as_tensor(random.uniform(0.5, 1.5, size=shape), dtype=dtype)
    value = random.standard_normal(size=shape)
    if "bias" in leaf or "mean" in leaf:
        value = 0.1 * value
    elif len(shape) < 2:
        value = 1 + 0.1 * value
    else:
        value = value / math.sqrt(max(1, math.prod(shape[1:])))
    return torch.as_tensor(np.asarray(value), dtype=dtype)


def state_dict_for(shapes: Mapping[str, Sequence[int]], skip: Collection[str] = ()) -> dict[str, torch.Tensor]:
    """A whole state dict from {name: shape}; the names in `skip`, buffers with fixed values, are left out."""
    return {name: tensor_for(name, shape) for name, shape in shapes.items() if name not in skip}


def input_for(shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """Standard normal float32 numbers."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(size=tuple(shape))).float()


def deviation(actual: torch.Tensor, golden: Any) -> float:
    """Largest difference in standard deviations of the golden values, beyond their rounding to 8 significant digits."""
    golden = torch.as_tensor(golden, dtype=torch.float64).flatten()
    rounding = 0.5 * 10 ** (golden.abs().clamp(min=1e-300).log10().floor() - 7)
    difference = (actual.detach().double().flatten() - golden).abs() - rounding
    return (difference.max() / golden.std()).item()
