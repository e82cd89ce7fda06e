"""Lists of files: what those of videos and of images have in common."""

import numpy as np
import pytest

from datasets.files import FileError, FileList


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


def test_missing_files_are_found(tmp_path):
    (tmp_path / "there").touch()
    files = FileList("ab", [0, 0], ["there", "gone"], root=str(tmp_path))
    assert [item.id for item in files.missing()] == ["b"]


def test_an_error_names_file_and_reason():
    error = FileError("a.jpg", "cut short")
    assert (error.path, error.reason, str(error)) == ("a.jpg", "cut short", "a.jpg: cut short")
    assert str(FileError(str(error))) == str(error)  # as a worker's error comes back
