"""Items whose outputs are NaN or infinite: a few count as wrong, too many leave no score."""

MAX_NON_FINITE = 0.01
"""The largest fraction of such items for which there is a score, unless a recipe sets another."""


def too_many(num_non_finite: int, num_read: int, max_share: float) -> bool:
    return num_non_finite > max_share * num_read


def describe(num_non_finite: int, num_read: int, max_share: float) -> str:
    """How many items have NaN or infinite outputs, and whether there are too many; "" without any."""
    if num_non_finite == 0:
        return ""
    counted = f"NaN or infinite outputs for {num_non_finite} of {num_read}"
    limit = f", more than evaluation.max_non_finite={max_share:g} allows"
    return counted + limit * too_many(num_non_finite, num_read, max_share)
