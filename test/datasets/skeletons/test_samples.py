"""Skeletons as the network sees them: who counts as a person."""

import numpy as np
import pytest

from datasets.file_list import FileError
from datasets.skeletons.samples import Skeleton

BODY = Skeleton(parents=[0, 0, 1], center=0, num_people=2, num_frames=4)
PERSON = np.random.default_rng(0).normal(size=(5, 1, 3, 3)).astype(np.float32)
NOBODY = np.zeros_like(PERSON)


@pytest.mark.parametrize("people", [[NOBODY, NOBODY], [np.full_like(PERSON, np.nan), NOBODY], [NOBODY + 3]])
def test_a_sequence_without_a_body_is_unreadable(tmp_path, people):
    path = f"{tmp_path}/a.npz"
    np.savez(path, walk=np.concatenate(people, axis=1))
    with pytest.raises(FileError, match=r"a.npz: it has no person: all joints are missing, or zero, or at one place"):
        BODY.read(path)


@pytest.mark.parametrize("other", [0, np.nan])
def test_absent_people_beside_a_person_are_zeros(tmp_path, other):
    """ST-GCN's arrays have zeros for them, ours NaN."""
    alone, together = f"{tmp_path}/alone.npz", f"{tmp_path}/together.npz"
    np.savez(alone, walk=PERSON)
    np.savez(together, walk=np.concatenate([NOBODY + other, PERSON], axis=1))
    np.testing.assert_array_equal(BODY.read(together)[:, 0], BODY.read(alone)[:, 0])
