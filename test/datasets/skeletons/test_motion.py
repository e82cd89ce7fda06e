"""Missing joints, people, time and augmentation, against values worked out by hand."""

import numpy as np
import pytest

from datasets.skeletons import motion

NAN = np.nan


def test_a_missing_joint_moves_in_a_straight_line():
    track = np.zeros((5, 1, 2, 3), np.float32)
    track[:, 0, 1, 0] = [NAN, 1, NAN, 3, NAN]
    filled = motion.fill_missing(track, center=0)
    assert filled[:, 0, 1, 0].tolist() == [1, 1, 2, 3, 3]
    assert np.isnan(track).sum() == 3  # the argument stays as it is


def test_a_joint_never_seen_is_at_the_center_and_absent_people_are_zeros():
    positions = np.ones((2, 2, 3, 3), np.float32)
    positions[:, 0, 2], positions[:, 0, 0] = NAN, 5
    positions[:, 1] = NAN
    filled = motion.fill_missing(positions, center=0)
    assert (filled[:, 0, 2] == 5).all() and (filled[:, 1] == 0).all()
    assert motion.present(filled).tolist() == [True, False]
    lost = motion.fill_missing(np.where(np.arange(3)[:, None] == 0, NAN, positions), center=0)
    assert (lost[:, 0] == 1).all()  # without the center, at the mean of the joints that were seen


def test_those_who_move_most_are_kept():
    frames = np.arange(4, dtype=np.float32)[:, None, None]
    still, slow, fast = (np.broadcast_to(speed * frames, (4, 2, 3)) for speed in (0, 1, 2))
    positions = np.stack([still, slow, fast], axis=1)
    np.testing.assert_array_equal(motion.choose_people(positions, 2), np.stack([fast, slow], axis=1))
    padded = motion.choose_people(positions[:, :1], 2)
    assert np.isnan(padded[:, 1]).all() and not np.isnan(padded[:, 0]).any()
    seldom = positions.copy()
    seldom[:3, 2] = NAN  # seen once, it did not move
    np.testing.assert_array_equal(motion.choose_people(seldom, 1)[:, 0], slow)


def test_place_and_size_do_not_matter():
    rng = np.random.default_rng(0)
    positions, parents = rng.normal(size=(6, 2, 4, 3)), np.array([0, 0, 1, 2])
    here = motion.sized(motion.centered(positions, 0), parents)
    there = motion.sized(motion.centered(3 * positions + [1, 2, 3], 0), parents)
    np.testing.assert_allclose(here, there, atol=1e-12)
    bones = np.linalg.norm(here[:, 0] - here[:, 0, parents], axis=-1)[:, 1:]
    assert bones.mean() == pytest.approx(1)
    point = np.ones((2, 1, 4, 3))
    np.testing.assert_array_equal(motion.sized(point, parents), point)


def test_time_is_linear_between_frames():
    positions = np.arange(5, dtype=np.float64)[:, None, None, None] * np.ones(3)
    assert motion.resampled(positions, 0, 4, 9)[:, 0, 0, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]
    assert motion.resampled(positions, 1.25, 3.25, 3)[:, 0, 0, 0].tolist() == [1.25, 2.25, 3.25]
    assert motion.resampled(positions[:1], 0, 0, 3)[:, 0, 0, 0].tolist() == [0, 0, 0]


def test_a_quarter_turn_and_noise():
    forward = np.array([[[[0.0, 1.0, 2.0]]]])
    np.testing.assert_allclose(motion.rotated(forward, 90), [[[[2, 1, 0]]]], atol=1e-12)
    positions = np.zeros((400, 2, 5, 3))
    positions[:, 0] = 1
    noisy = motion.jittered(positions, 0.1, np.random.default_rng(0))
    assert (noisy[:, 1] == 0).all() and (noisy[:, 0] - 1).std() == pytest.approx(0.1, rel=0.1)
