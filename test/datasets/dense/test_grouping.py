"""Orders of epochs in which a batch has one orientation."""

import numpy as np
import pytest

from datasets.dense.grouping import grouped_order


def orders(is_landscape, batch_size, num_epochs=6, seed=3):
    return [
        grouped_order(np.random.default_rng((seed, epoch)), is_landscape, batch_size, epoch * len(is_landscape))
        for epoch in range(num_epochs)
    ]


def flags(num_landscape, num_portrait):
    return np.random.default_rng(0).permutation(np.arange(num_landscape + num_portrait) < num_landscape)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("counts", [(80, 20), (20, 81), (37, 36), (50, 0), (0, 7), (1, 1), (3, 2)])
def test_every_epoch_has_each_image_once_and_at_most_one_mixed_batch(counts, batch_size):
    is_landscape = flags(*counts)
    found = orders(is_landscape, batch_size)
    for order in found:
        assert sorted(order.tolist()) == list(range(len(is_landscape)))
    stream = is_landscape[np.concatenate(found)]
    whole = stream[: len(stream) // batch_size * batch_size].reshape(-1, batch_size)
    mixed = [batch for batch in whole if batch.any() and not batch.all()]
    if max(counts) >= 2 * batch_size:  # enough of one kind for the parts at both ends
        assert len(mixed) <= len(found)
        assert all(np.count_nonzero(np.diff(batch.astype(int))) == 1 for batch in mixed)


def test_no_batch_is_mixed_where_the_counts_divide():
    stream = flags(48, 16)[np.concatenate(orders(flags(48, 16), 8))].reshape(-1, 8)
    assert all(batch.all() or not batch.any() for batch in stream)


def test_orders_are_random_and_functions_of_the_generator():
    is_landscape = flags(60, 20)
    first, again, other = (np.stack(orders(is_landscape, 8, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert len({tuple(order) for order in first.tolist()}) == 6
    starts = [is_landscape[order[0]] for seed in range(40) for order in orders(is_landscape, 8, 1, seed)]
    assert 0.1 < np.mean(np.logical_not(starts)) < 0.5  # a quarter of the batches is portrait, wherever they are
