"""Lists of skeletons: by the names of sequences, by folders and by list files."""

import numpy as np
import pytest

from datasets.skeletons import read_skeletons

CLIP = np.zeros((2, 3, 3), np.float32)


@pytest.fixture
def archive(tmp_path):
    names = [f"a{action:02d}_s{subject:02d}_e01" for action in (1, 2) for subject in (1, 2, 10)]
    np.savez(tmp_path / "set.npz", **dict.fromkeys(names, CLIP), bones=np.zeros((2, 2)))
    return tmp_path / "set.npz"


def test_subjects_are_split_by_name(archive):
    read = lambda split: read_skeletons(archive, None, None, split, "msr_action3d")  # noqa: E731
    assert read("1,10").labels.tolist() == [0, 0, 1, 1] and len(read(None)) == 6
    test = read("not 1, 10")
    assert [item.id for item in test] == ["a01_s02_e01", "a02_s02_e01"]
    assert test[0].path == f"{archive}:a01_s02_e01" and test.class_names == ("01", "02")


def test_groups_have_names_or_numbers(tmp_path):
    names = ("anna_walk", "bob_walk", "1_run", "01_run")
    np.savez(tmp_path / "set.npz", **dict.fromkeys(names, CLIP))
    pattern = r"(?P<group>[a-z0-9]+)_(?P<action>\w+)"
    ids = lambda split: {item.id for item in read_skeletons(tmp_path / "set.npz", None, None, split, pattern)}  # noqa: E731
    assert ids("anna") == {"anna_walk"} and ids("not anna, bob") == {"1_run", "01_run"}
    assert ids("01") == {"01_run"} and ids("001") == {"1_run", "01_run"}
    with pytest.raises(ValueError, match=r"expected some of the groups 1, 1, anna, bob, such as 1 or `not 1`"):
        ids("carl")
    with pytest.raises(ValueError, match=r"set.npz:anna_walk: its name is not of the form"):
        read_skeletons(tmp_path / "set.npz", None, None, "1", r"(?:(?P<group>\d+)|[a-z]+)_(?P<action>\w+)")


def test_ntus_names_tell_subjects_and_cameras(tmp_path):
    for name in ("S001C001P001R001A001", "S001C002P003R001A002"):
        (tmp_path / f"{name}.skeleton").write_text("1\n0\n")
    assert read_skeletons(tmp_path, None, None, "3", "ntu_subject").labels.tolist() == [1]
    assert read_skeletons(tmp_path, None, ["sit", "run"], "1", "ntu_view").labels.tolist() == [0]


def test_a_pattern_of_your_own_folders_and_list_files(tmp_path, archive):
    own = r"a(?P<group>\d+)_s(?P<action>\d+)_e01"
    assert read_skeletons(archive, None, None, "2", own).labels.tolist() == [0, 1, 2]
    for name in ("run/a.npz", "walk/b.npz"):
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        np.savez(tmp_path / "set" / name, it=CLIP)
    assert read_skeletons(tmp_path / "set").class_names == ("run", "walk")
    (tmp_path / "list.txt").write_text("x 1 set.npz:a01_s01_e01\n")
    (item,) = read_skeletons(tmp_path / "list.txt")
    assert (item.id, item.label, item.path) == ("x", 1, f"{tmp_path}/set.npz:a01_s01_e01")


def test_actions_are_numbered_as_the_training_list_numbers_them(archive):
    found = read_skeletons(archive, class_names=["00", "02", "01", "03"], names="msr_action3d")
    assert {item.id[:3]: item.label for item in found} == {"a01": 2, "a02": 1}
    assert found.class_names == ("00", "02", "01", "03")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, None, None), "holds sequences without labels; set data.names, such as data.names=msr_action3d"),
        ((None, "1", None), "split='1' needs data.names"),
        ((None, None, "msr_acton3d"), "not one of msr_action3d, utkinect, .*; did you mean 'msr_action3d'"),
        ((None, None, "("), r"names='\(' is not a regular expression"),
        ((None, None, "utkinect"), "set.npz:a01_s01_e01: its name is not of the form s"),
        ((["wave"], None, "msr_action3d"), "set.npz has 2 actions, but there are 1 class names"),
        ((["01", "03"], None, "msr_action3d"), "action '02' is not one of the 2 class names"),
        ((None, "3", "msr_action3d"), "split='3'; expected some of the groups 1, 2, 10, such as 1 or `not 1`"),
        ((None, "a", "msr_action3d"), "split='a'; expected some of the groups 1, 2, 10"),
        ((None, "not 1,2,10", "msr_action3d"), "split='not 1,2,10' keeps nothing"),
    ],
)
def test_lists_that_do_not_fit(archive, arguments, message):
    class_names, split, names = arguments
    with pytest.raises(ValueError, match=message):
        read_skeletons(archive, None, class_names, split, names)
