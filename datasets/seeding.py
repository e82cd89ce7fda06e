"""Random operations of libraries, which draw from global generators, as functions of a generator that is handed in."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def seeded_by(rng: np.random.Generator) -> Iterator[None]:
    """Inside, the generators of Python, NumPy and torch draw what `rng` says; afterwards they go on as before."""
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
