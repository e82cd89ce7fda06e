"""What a checkpoint knows of its data."""

import numpy as np
import pytest
import torch

from engine.checkpoint import CheckpointError, read_fact
from engine.distributed import Ranks
from engine.fingerprint import Contents, as_plain, changes, check_same_on_all_ranks

NOW = {"training": {"files": Contents.of(["a", "b"]), "weights": Contents.of([])}}


def test_contents_are_counted_in_their_order():
    assert Contents.of([]).count == 0 and Contents.of(["a", "b"]).count == 2
    assert len({Contents.of(names) for names in (["a", "b"], ["b", "a"], ["ab"], ["a\udce9"], [])}) == 5


def test_tables_are_counted_in_the_order_of_their_rows():
    rows = np.array([[1, 2], [3, 4]])
    contents = Contents.of_rows(rows)
    assert contents == Contents.of_rows(rows.astype(np.int32)) == Contents.of_rows(np.asfortranarray(rows))
    assert contents.count == 2 and contents != Contents.of_rows(rows[::-1])


def test_changes_in_words():
    assert changes(as_plain(NOW), NOW, "training") == changes({}, NOW, "training") == []
    assert changes(as_plain(NOW), {}, "training") == []  # a later version may compare other things
    before = {"training": {"files": [2, "other"], "weights": [3, ""]}}
    assert changes(before, NOW, "training") == [
        "files: 2 as before, but different ones or in a different order",
        "weights: 3 before, 0 now",
    ]


def test_files_of_others_say_nothing_of_themselves(tmp_path):
    (tmp_path / "text.pth").write_text("x")
    torch.save([1], tmp_path / "list.pth")
    torch.save({"w": torch.ones(1)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"fingerprint": as_plain(NOW), "w": torch.ones(1)}, tmp_path / "ours.pt")
    found = [
        read_fact(tmp_path / name, "fingerprint") for name in ("text.pth", "list.pth", "old.pth", "gone.pt", "ours.pt")
    ]
    assert found == [None, None, None, None, as_plain(NOW)]


def test_ranks_that_read_other_lists_are_found():
    class Second(Ranks):
        def broadcast(self, value):
            return {"training": {"files": [3, ""]}}

    with pytest.raises(CheckpointError, match=r"rank 1 reads different data from rank 0 \(files: 3 before, 2 now"):
        check_same_on_all_ranks(NOW, Second(1, 2, torch.device("cpu")))
