"""Where a network has reasoning units: for each stage, the blocks that a unit follows."""

from collections.abc import Collection, Mapping

Units = Mapping[str, Collection[int]]  # stage -> the blocks, counted from 1, that a unit follows


def unit_names(units: Units) -> list[str]:
    """Names of the units in the network: the one that follows block B03 of conv4 is conv4.B03_extra."""
    return [f"{stage}.B{block:02d}_extra" for stage, blocks in units.items() for block in blocks]


def check_units(units: Units, num_blocks: Mapping[str, int]) -> None:
    """Raises ValueError unless every unit follows a block of the network.

    Args:
        units: where units are.
        num_blocks: stage -> number of its blocks.
    """
    for stage, blocks in units.items():
        if stage not in num_blocks:
            raise ValueError(f"units: there is no stage {stage!r}; units go into {', '.join(num_blocks)}")
        wrong = [block for block in blocks if block not in range(1, num_blocks[stage] + 1)]
        if wrong:
            raise ValueError(f"units: {stage} has blocks 1 to {num_blocks[stage]}; no unit can follow block {wrong[0]}")
