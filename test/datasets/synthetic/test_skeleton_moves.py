"""Made skeletons: reproducible, and each move turns its own limb."""

import numpy as np
import pytest

from datasets.skeletons import read_skeleton, read_skeletons
from datasets.synthetic.skeleton_moves import MOVES, PARENTS, make_move, make_skeleton_moves
from eurgraph.bodies import BODIES


def test_a_set_is_made_once(tmp_path):
    folder = make_skeleton_moves(tmp_path / "set", num_train=10, num_val=3)
    files = read_skeletons(folder / "train.txt")
    assert files.labels.tolist() == [*range(8), 0, 1] and read_skeleton(files[0].path).shape[1:] == (1, 20, 3)
    assert make_skeleton_moves(tmp_path / "set", num_train=10, num_val=3) == folder
    again = make_skeleton_moves(tmp_path / "again", num_train=10, num_val=3)
    np.testing.assert_array_equal(read_skeleton(again / "train.npz:0004"), read_skeleton(folder / "train.npz:0004"))
    with pytest.raises(FileExistsError, match="was made with"):
        make_skeleton_moves(tmp_path / "set", num_train=10, num_val=4)


HEAD, LEFT_HAND, RIGHT_HAND, LEFT_FOOT, RIGHT_FOOT = 3, 7, 11, 15, 19
ENDS = {
    "bow": HEAD,
    "kick_left": LEFT_FOOT,
    "kick_right": RIGHT_FOOT,
    "lift_right_arm": RIGHT_HAND,
    "lower_right_arm": RIGHT_HAND,
    "wave_left": LEFT_HAND,
    "wave_right": RIGHT_HAND,
    "point_left": LEFT_HAND,
}


@pytest.mark.parametrize("name", MOVES)
def test_a_move_turns_its_limb(name):
    assert BODIES["kinect"].parents == PARENTS
    clip = make_move(name, np.random.default_rng(0))
    spread = (clip - clip[:, :1]).std(axis=0).sum(axis=1)  # of each joint, as seen from the hip
    still = {LEFT_FOOT, RIGHT_FOOT} if name == "bow" else {HEAD, LEFT_HAND, RIGHT_HAND, LEFT_FOOT, RIGHT_FOOT}
    assert spread[ENDS[name]] > 0.3
    assert all(spread[end] < 0.1 for end in still - {ENDS[name]})


def test_lifting_and_lowering_differ_in_the_direction_of_time():
    for name, sign in (("lift_right_arm", 1), ("lower_right_arm", -1)):
        height = make_move(name, np.random.default_rng(1))[:, RIGHT_HAND, 1]
        assert sign * (height[-1] - height[0]) > 0.5
