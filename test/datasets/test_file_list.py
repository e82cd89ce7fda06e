"""Lists of files: the common part of video lists and image lists."""

import pickle
import tracemalloc

import numpy as np
import pytest

from datasets import text_files
from datasets.file_list import FileError, FileList, read_folder, read_list
from datasets.find_files import FileKind
from datasets.sampling_weights import join_lists


def test_list_is_a_sequence_that_cannot_change():
    files = FileList(["x", "y"], np.array([0, 1]), ["a.mp4", "b\udcff.mp4"], ["p", "q"], "root")
    assert files[1].path == "root/b\udcff.mp4"  # a file name that is not UTF-8, as os.listdir gives it
    assert [item.index for item in files] == [0, 1]
    assert repr(files) == "FileList(2 files, 2 classes, root='root')"
    with pytest.raises(IndexError):
        files[2]
    with pytest.raises(ValueError, match="read-only"):
        files.labels[0] = 1
    with pytest.raises(ValueError, match=r"a.mp4 has label 2; expected 0 to 1 for 2 classes"):
        FileList(["x"], [2], ["a.mp4"], ["p", "q"])
    with pytest.raises(ValueError, match="2 ids, 1 labels and 1 paths"):
        FileList(["x", "y"], [0], ["a.mp4"])


def test_labels_and_names_that_no_list_can_hold():
    for label, message in (
        (10**20, "a label has more than 64 bits; expected 0 to 9999999, or -1"),
        ((0, 10**20), "a label has more than 64 bits"),
        (2**63 - 1, "a.mp4 has label 9223372036854775807; expected 0 to 9999999"),
        (-2, "a.mp4 has label -2"),
    ):
        with pytest.raises(ValueError, match=message):
            FileList(["x"], [label], ["a.mp4"])
    for path, message in (("a\0.mp4", "holds a NUL character"), ("\ud800.mp4", "holds a lone surrogate")):
        with pytest.raises(ValueError, match=message):
            FileList(["x"], [0], [path])


def test_folders_of_one_class_and_folders_that_are_none(tmp_path, caplog):
    kind = FileKind("texts", (".txt",))
    for name in ("x/1.txt", "x /2.txt", "y/3.txt", "__MACOSX/x/._1.txt", "top.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = read_folder(tmp_path, tmp_path, None, kind)
    assert files.class_names == ("x", "y") and [(item.id, item.label) for item in files] == [
        ("x/1.txt", 0),
        ("x /2.txt", 0),
        ("y/3.txt", 1),
    ]
    assert "texts skipped, because they are in no subfolder: 1, for example 'top.txt'" in caplog.text
    for name, message in (
        ("a\nb", "a control character"),
        ("caf\udce9", r"'caf\\udce9' holds bytes that are not UTF-8"),
    ):
        (tmp_path / name).mkdir()
        with pytest.raises(ValueError, match=f"{tmp_path}: subfolder .*{message}"):
            read_folder(tmp_path, tmp_path, None, kind)
        (tmp_path / name).rmdir()


def test_a_folder_of_splits_is_no_folder_of_classes(tmp_path):
    kind = FileKind("texts", (".txt",))
    for names, is_refused in ((["Train", "Test", "meta"], True), (["val", "dev"], True), (["train", "bus"], False)):
        folder = tmp_path / names[0]
        for name in names:
            (folder / name).mkdir(parents=True)
            (folder / name / "a.txt").touch()
        if is_refused:
            with pytest.raises(ValueError, match=rf"{folder} holds \w+ and \w+, not classes; name {folder}/"):
                read_folder(folder, folder, None, kind)
        else:
            assert read_folder(folder, folder, None, kind).class_names == ("bus", "train")


def test_missing_files_are_found(tmp_path):
    (tmp_path / "there").touch()
    files = FileList("ab", [0, 0], ["there", "gone"], root=str(tmp_path))
    assert [item.id for item in files.missing()] == ["b"]


def test_an_error_names_file_and_reason():
    error = FileError("a.jpg", "cut short")
    assert (error.path, error.reason, str(error)) == ("a.jpg", "cut short", "a.jpg: cut short")
    assert str(FileError(str(error))) == str(error)  # how a worker's error comes back


def test_a_long_list_is_read_in_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "CHARACTERS_AT_ONCE", 1000)
    path, num_files = tmp_path / "list.txt", 10_000
    path.write_text("".join(f"id_{i:05d}\t{i % 7}\tclass/video_{i:05d}.mp4\n" for i in range(num_files)))
    tracemalloc.start()
    try:
        files = read_list(path, tmp_path, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < num_files * 150  # bytes; 340 with a string for each field
    assert [item[1:] for item in files][1234] == ("id_01234", 2, str(tmp_path / "class/video_01234.mp4"))
    assert files.labels.tolist() == [i % 7 for i in range(num_files)]
    assert list(pickle.loads(pickle.dumps(files))) == list(files)


def test_several_labels(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("x 3,0,2 a.mp4\ny 1 b c.mp4\nz -1 d.mp4\n")
    files = read_list(path, tmp_path, None)
    assert files.has_several and files.num_classes == 4 and files.labels.tolist() == [3, 1, -1]
    assert [files.labels_of(row) for row in range(3)] == [(3, 0, 2), (1,), ()] and files[0].label == 3
    targets = [[0, 1, 0, 0, 0], [1, 0, 1, 1, 0], [0, 0, 0, 0, 0]]
    assert files.targets(np.array([1, 0, 2]), 5).astype(int).tolist() == targets
    rows, labels = files.labeled_rows()
    assert (rows.tolist(), labels.tolist()) == ([0, 0, 0, 1], [3, 0, 2, 1])
    joined = join_lists([FileList(["w"], [-1], ["e.mp4"]), files])
    assert [joined.labels_of(row) for row in range(4)] == [(), (3, 0, 2), (1,), ()]
    single = FileList("ab", [2, -1], ["a", "b"])
    assert [single.labels_of(row) for row in (0, 1)] == [(2,), ()] and single.labeled_rows()[0].tolist() == [0]
    with pytest.raises(ValueError, match=r"a.mp4 has label 5; expected 0 to 1 for 2 classes"):
        FileList(["y", "x"], [0, (0, 5)], ["b.mp4", "a.mp4"], ["p", "q"])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("3,x", "label '3,x' is not a whole number"),
        ("3,,4", "label '3,,4' is not a whole number"),
        ("3,-1", "several labels must differ, and -1 must be the only one"),
        ("3,3", "several labels must differ"),
        ("3,9", "label 9: expected 0 to 4 for 5 classes"),
        ("9" * 20, "label 9{20}: expected 0 to 4"),
        ("-" + "9" * 20, "label -9{20}: expected 0 to 4"),
        ("1e3", "label '1e3' is not a whole number"),
        ("1_0", "label '1_0' is not a whole number"),
        ("\u00b2", "label '\u00b2' is not a whole number"),
        ("\uff13", "label '\uff13' is not a whole number"),
    ],
)
def test_bad_labels_are_named(tmp_path, label, message):
    path = tmp_path / "list.txt"
    path.write_text(f"w 0 a.mp4\nx {label} b.mp4\n")
    with pytest.raises(ValueError, match=rf"list\.txt:2: .*{message}"):
        read_list(path, tmp_path, "abcde")
