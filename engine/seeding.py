"""Random numbers as a function of the position in a run."""

import random

import numpy as np
import torch


def seed_position(seed: int, position: int) -> None:
    """Seeds the generators of torch, NumPy and Python by the run's seed and a position in it (-1: before the start)."""
    words = np.random.SeedSequence((seed, position + 1)).generate_state(4, np.uint64).tolist()
    torch.manual_seed(words[0])
    np.random.seed(np.array(words[1:3], dtype=np.uint64).view(np.uint32))  # timm's mixup draws from it
    random.seed(words[3])  # and its random erasing from this one
