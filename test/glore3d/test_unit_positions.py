"""Places of units: their names, and what is said of places that do not exist."""

import pytest

from glore3d.unit_positions import check_units, unit_names


def test_a_unit_is_named_after_the_block_before_it():
    assert unit_names({"conv3": (1, 3), "conv4": (12,)}) == ["conv3.B01_extra", "conv3.B03_extra", "conv4.B12_extra"]


def test_units_follow_blocks_that_exist():
    check_units({"conv3": (1, 4)}, {"conv3": 4})
    with pytest.raises(ValueError, match="there is no stage 'conv9'; units go into conv3, conv4"):
        check_units({"conv9": (1,)}, {"conv3": 4, "conv4": 6})
    with pytest.raises(ValueError, match="conv3 has blocks 1 to 4; no unit can follow block 5"):
        check_units({"conv3": (1, 5)}, {"conv3": 4})
