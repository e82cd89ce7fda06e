"""Made folds: one set for one seed, whole chains with the distances of real ones, and no hint in the residues."""

import numpy as np
import pytest

from datasets.proteins import read_backbone
from datasets.proteins.labels import read_table
from datasets.synthetic.protein_folds import FOLDS, make_backbone, make_protein_folds


def test_a_set_is_a_function_of_its_arguments(tmp_path):
    one, other = (make_protein_folds(tmp_path / name, num_train=8, num_val=4, seed=3) for name in ("a", "b"))
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    assert len(names) == 8 + 4 + 3
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names)
    assert (one / "train/0000.pdb").read_bytes() != (one / "val/0000.pdb").read_bytes()
    files = read_table(one / "train.csv", one)
    assert files.class_names == ("barrel", "helices", "strands")
    labels = [{files.class_names[label] for label in files.labels_of(row)} for row in range(4)]
    assert labels == [set(names) for names in FOLDS.values()]
    with pytest.raises(FileExistsError, match="was made with"):
        make_protein_folds(one, num_train=9, num_val=4, seed=3)


@pytest.mark.parametrize("fold", FOLDS)
def test_chains_are_whole(fold):
    for seed in range(5):
        positions = make_backbone(fold, np.random.default_rng(seed))
        steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        assert 30 < len(positions) < 250 and 3.2 < np.median(steps) < 4.4 and steps.max() < 11


def test_residues_tell_nothing_and_positions_survive_the_file(tmp_path):
    folder = make_protein_folds(tmp_path / "set", num_train=40, num_val=4)
    counts = np.zeros((2, 21))
    for row in range(40):
        backbone = read_backbone(folder / f"train/{row:04d}.pdb")
        counts[row % 2] += np.bincount(backbone.types, minlength=21)
        assert backbone.chain_names == ("A",) and len(backbone.types) > 30
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert (counts[:, 20] == 0).all() and np.abs(shares[0] - shares[1]).max() < 0.02
