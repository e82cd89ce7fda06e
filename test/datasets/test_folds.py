"""Folds: every file once, equal shares of every class, whole groups."""

import numpy as np
import pytest

from datasets.file_list import FileList
from datasets.folds import assign_folds, number_sources, sources_from_table


def make_list(labels):
    names = [f"v{row}" for row in range(len(labels))]
    return FileList(names, labels, [f"{name}.mp4" for name in names])


@pytest.mark.parametrize("num_folds", [2, 3, 5])
def test_every_fold_has_its_share_of_every_class(num_folds):
    labels = np.repeat([0, 1, 2, 3], [40, 23, 7, 2])
    folds = assign_folds(make_list(np.random.default_rng(1).permutation(labels).tolist()), num_folds, seed=0)
    shuffled = np.random.default_rng(1).permutation(labels)
    for label in range(4):
        counts = np.bincount(folds[shuffled == label], minlength=num_folds)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(folds, minlength=num_folds)
    assert sizes.sum() == len(labels) and sizes.max() - sizes.min() <= 2


def test_the_seed_decides():
    files = make_list([0, 1] * 20)
    first = assign_folds(files, 4, seed=3)
    assert np.array_equal(first, assign_folds(files, 4, seed=3))
    assert not np.array_equal(first, assign_folds(files, 4, seed=4))


def test_files_with_several_labels():
    rng = np.random.default_rng(0)
    labels = [tuple(np.flatnonzero(row).tolist()) for row in rng.random((300, 6)) < 0.3]
    labels = [label if len(label) > 1 else (label[0] if label else 0) for label in labels]
    files = make_list(labels)
    folds, targets = assign_folds(files, 5, seed=0), files.targets(range(300), 6)
    counts = np.stack([targets[folds == fold].sum(0) for fold in range(5)])  # [F, C]
    assert (np.ptp(counts, axis=0) <= 4).all() and np.ptp(np.bincount(folds)) <= 12


def test_a_group_stays_together(tmp_path):
    files = make_list([0, 1, 2] * 20)
    (tmp_path / "groups.txt").write_text("".join(f"v{row} recording {row // 4}\n" for row in range(48)))
    groups = number_sources(sources_from_table(tmp_path / "groups.txt", files))
    assert len(set(groups.tolist())) == 12 + 12
    folds = assign_folds(files, 3, seed=0, groups=groups)
    assert all(len(set(folds[groups == group].tolist())) == 1 for group in range(24))
    assert np.ptp(np.bincount(folds)) <= 4
    (tmp_path / "groups.txt").write_text("v1 a\nw7 a\n")
    with pytest.raises(ValueError, match=r"1 of its ids are not in the list, for example 'w7'"):
        sources_from_table(tmp_path / "groups.txt", files)


def test_a_tab_ends_an_id_with_spaces(tmp_path):
    files = FileList(["dog/a b.mp4", "dog/c.mp4", "d"], [0, 0, 0], ["a", "c", "d"])
    table = tmp_path / "groups.txt"
    table.write_text("dog/a b.mp4\tday 1\n dog/c.mp4 \t day 1\t\nd day 1\n")
    assert len(set(sources_from_table(table, files))) == 1
    table.write_text("dog/a b.mp4 day 1\n")
    with pytest.raises(ValueError, match=r"not in the list, for example 'dog/a'; put a tab after ids that hold spaces"):
        sources_from_table(table, files)


def test_fewer_files_than_folds():
    with pytest.raises(ValueError, match="3 files or groups cannot be divided into 5 folds"):
        assign_folds(make_list([0, 1, 0]), 5, seed=0)


def test_a_subset_keeps_labels_and_classes():
    files = FileList(["a", "b", "c"], [0, (1, 2), 2], ["a.mp4", "b.mp4", "c.mp4"], ["x", "y", "z"], "/root")
    part = files.subset([2, 1])
    assert [item.path for item in part] == ["/root/c.mp4", "/root/b.mp4"] and part.num_classes == 3
    assert [part.labels_of(row) for row in range(2)] == [(2,), (1, 2)] and part.class_names == ("x", "y", "z")
