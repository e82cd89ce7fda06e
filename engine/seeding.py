"""Random numbers as a function of the position in a run."""

import random

import numpy as np
import torch


def seed_position(seed: int, position: int) -> None:
    """Seeds torch, NumPy and Python from the seed of the run and a position in it (-1: before the first step)."""
    words = np.random.SeedSequence((seed, position + 1)).generate_state(4, np.uint64).tolist()
    torch.manual_seed(words[0])
    np.random.seed(np.array(words[1:3], dtype=np.uint64).view(np.uint32))  # used by timm's mixup
    random.seed(words[3])  # used by timm's random erasing
