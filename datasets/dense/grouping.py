"""The order of an epoch in which the images of a batch have one orientation, to reduce padding.

A landscape and a portrait image of 800 x 1333 pixels need a batch of 1333 x 1333 each: 40 % of it is padding.
"""

import numpy as np


def grouped_order(
    rng: np.random.Generator, is_landscape: np.ndarray, batch_size: int, first_position: int = 0
) -> np.ndarray:
    """The rows of N images in random order, each once, with one orientation per batch.

    A batch may begin in one epoch and end in the next. Its parts at the ends of an epoch get the more frequent
    orientation, so that they match without knowing the other epoch's order. The batches in between are shuffled; at
    most one is mixed, if the counts leave a remainder. It has one orientation after the other, so that the parts of
    all ranks but one have one orientation. If there are too few images for this, the whole order has one orientation
    after the other.

    Args:
        rng: the generator of the epoch.
        is_landscape: bool [N], of each image; squares count as landscape.
        batch_size: images of a step on all ranks together.
        first_position: samples of the run before this epoch.
    """
    order, num_items = rng.permutation(len(is_landscape)), len(is_landscape)
    is_major = is_landscape if 2 * is_landscape.sum() >= num_items else ~is_landscape
    major, minor = order[is_major[order]], order[~is_major[order]]
    head = -first_position % batch_size  # completes the batch that the last epoch began
    tail = (num_items - head) % batch_size  # is completed by the next one
    if head + tail > len(major) or head > num_items:
        return np.concatenate([major, minor])
    ends, middle = np.split(major, [head + tail])
    pure = len(middle) // batch_size * batch_size
    mixed = len(minor) // batch_size * batch_size
    rest = np.concatenate([middle[pure:], minor[mixed:]])  # a whole batch, or nothing
    batches = np.concatenate([middle[:pure], minor[:mixed], rest]).reshape(-1, batch_size)
    return np.concatenate([ends[:head], rng.permutation(batches).ravel(), ends[head:]])
