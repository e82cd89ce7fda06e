"""Makes library operations that use global generators deterministic functions of a given generator."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def seeded_by(rng: np.random.Generator) -> Iterator[None]:
    """Inside, the global generators of Python, NumPy and torch are seeded by `rng`; their states are restored after."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seeds = rng.integers(2**32, size=3).tolist()
    random.seed(seeds[0])
    np.random.seed(seeds[1])
    torch.default_generator.manual_seed(seeds[2])
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
