import numpy as np
import pytest

from datasets.file_list import FileList
from datasets.sampling_weights import balance_classes, join_lists, read_weights


def test_balance():
    labels = np.array([0, 0, 0, 0, 1, 3])
    for strength, shares in ((0, [4, 1, 0, 1]), (0.5, [2, 1, 0, 1]), (1, [1, 1, 0, 1])):
        weights = balance_classes(labels, strength)
        np.testing.assert_allclose(np.bincount(labels, weights), shares)


def test_a_table_of_weights(tmp_path):
    files = FileList(["a", "b c", "d"], [0, 0, 1], ["a.mp4", "b.mp4", "d.mp4"])
    (path := tmp_path / "weights.txt").write_text("b c\t2.5\n\nd\t0\n")
    assert read_weights(path, files).tolist() == [1, 2.5, 0]
    for text, message in (
        ("a", "weights.txt:1: expected `id weight`, where weight is a number; found 'a'"),
        ("a 1\nd -1", "weights.txt:2: expected a weight of 0 or more"),
        ("a nan", "expected a weight of 0 or more"),
        ("a 1_0", "expected `id weight`, where weight is a number"),
        ("a 1\nd 2\na 1", "weights.txt:3: 'a' has a weight in a line above"),
        ("e 1", "1 of its ids are not in the list, for example 'e'"),
        ("a 0\nb c 0\nd 0", "gives every file weight 0"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_weights(path, files)


def test_weights_of_ids_that_repeat(tmp_path):
    (path := tmp_path / "weights.txt").write_text("a 5\n")
    twice = FileList(["a", "b", "a"], [0, 0, 1], ["a.mp4", "b.mp4", "a.mp4"], root="one")
    assert read_weights(path, twice).tolist() == [5, 1, 5]
    assert read_weights(path, join_lists([twice, twice])).tolist() == [5, 1, 5, 5, 1, 5]
    other = FileList(["a"], [0], ["a.mp4"], root="two")
    with pytest.raises(ValueError, match=r"'a' is the id of several files, one/a\.mp4 and two/a\.mp4; give each an id"):
        read_weights(path, join_lists([twice, other]))
    path.write_text("b 5\n")
    assert read_weights(path, join_lists([twice, other])).tolist() == [1, 5, 1, 1]


def test_joined_lists():
    first = FileList(["a"], [1], ["a.mp4"], ["x", "y"], root="one")
    joined = join_lists([first, FileList(["a", "c"], [0, 1], ["a.mp4", "c.mp4"], root="two")])
    assert [item.path for item in joined] == ["one/a.mp4", "two/a.mp4", "two/c.mp4"]
    assert joined.class_names == ("x", "y") and joined.labels.tolist() == [1, 0, 1]
