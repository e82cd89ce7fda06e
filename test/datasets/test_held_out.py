"""Shares of a list: a choice by seed and name alone, whole recordings, and what cannot be divided."""

import numpy as np
import pytest

from datasets.held_out import held_out, sources_by_pattern

NAMES = [f"v_Archery_g{row // 4:02d}_c{row % 4}" for row in range(400)]


def test_the_choice_depends_on_seed_and_name_alone():
    held = held_out(NAMES, 0.1, seed=0)
    assert 20 <= held.sum() <= 60
    order = np.random.default_rng(0).permutation(len(NAMES))
    assert np.array_equal(held_out([NAMES[row] for row in order], 0.1, seed=0), held[order])
    assert np.array_equal(held_out(NAMES[:200], 0.1, seed=0), held[:200])  # other files change nothing
    assert not np.array_equal(held_out(NAMES, 0.1, seed=1), held)
    assert not (held & ~held_out(NAMES, 0.3, seed=0)).any()  # a larger share adds to a smaller one


def test_a_pattern_names_the_recordings():
    sources = sources_by_pattern([*NAMES, "other"], r"(.*)_c\d+$")
    assert sources[:5] == ["v_Archery_g00"] * 4 + ["v_Archery_g01"] and sources[-1] == "other"
    assert sources_by_pattern(NAMES, r"g\d+")[4] == "g01"  # without a group, all that matches
    held = held_out(sources, 0.2, seed=0)[:-1].reshape(-1, 4)
    assert np.array_equal(held.any(1), held.all(1)) and 5 <= held.all(1).sum() <= 40


def test_a_file_without_the_optional_group_is_on_its_own():
    ids = ["clip1", "clip2", "s3_clip1", "s3_clip2"]
    assert sources_by_pattern(ids, r"(?:(s\d+)_)?clip") == ["clip1", "clip2", "s3", "s3"]


def test_what_cannot_be_divided():
    with pytest.raises(ValueError, match=r"a fraction of 1e-09 holds out none of 400 files from 400 sources"):
        held_out(NAMES, 1e-9, seed=0)
    with pytest.raises(ValueError, match=r"a fraction of 1 holds out all of 3 files from 1 sources"):
        held_out(["a"] * 3, 1.0, seed=0)
    with pytest.raises(ValueError, match="'clip' matches none of the 400 ids, for example 'v_Archery_g00_c0'"):
        sources_by_pattern(NAMES, "clip")
