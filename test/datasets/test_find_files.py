"""Folders as people copy, unpack and link them."""

import logging
import os
from unicodedata import normalize

import pytest

from datasets.find_files import FileKind, class_folders, find_files, why_unopened

TEXTS = FileKind("texts", (".txt", ".md"))


def make(folder, *names, **links):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name, target in links.items():
        (folder / name.replace("__", "/")).symlink_to(target)
    return folder


def test_what_systems_leave_behind_is_no_part_of_a_data_set(tmp_path):
    junk = (
        "__MACOSX",
        "@eaDir",
        "lost+found",
        "$RECYCLE.BIN",
        "System Volume Information",
        ".ipynb_checkpoints",
        ".git",
    )
    names = [name for folder in junk for name in (f"{folder}/a.txt", f"a/{folder}/a.txt")]
    make(tmp_path, "a/1.txt", "b/2.MD", "a/._1.txt", "a/.x.txt", "a/Thumbs.db", "a/desktop.ini", *names)
    assert find_files(tmp_path, TEXTS) == ["a/1.txt", "b/2.MD"]
    assert class_folders(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    "links",
    [
        {"a__loop": "."},
        {"a__up": ".."},
        {"a__far_up": "../.."},
        {"a__self": "self"},
        {"loop": "."},
        {"up": ".."},
        {"root": "/"},
        {"a__x__up": "../.."},
    ],
)
def test_a_link_to_a_folder_that_it_is_in_is_passed_over(tmp_path, caplog, links):
    folder = make(tmp_path / "classes", "a/x/1.txt", "b/2.txt", **links)
    with caplog.at_level(logging.WARNING):
        assert find_files(folder, TEXTS) == ["a/x/1.txt", "b/2.txt"]
    (link,) = links
    assert "skipped" in caplog.text and repr(link.replace("__", "/")) in caplog.text
    assert class_folders(folder) == ["a", "b"]


def test_a_loop_by_way_of_a_link_elsewhere(tmp_path):
    """The folder is in the pool only by the path that it is given by."""
    make(tmp_path, "pool/a/1.txt")
    make(tmp_path, "classes/b/2.txt", classes__a="../pool/a", pool__a__back="../../classes")
    assert find_files(tmp_path / "classes", TEXTS) == ["a/1.txt", "b/2.txt"]


def test_links_that_are_no_loops_are_followed(tmp_path, caplog):
    make(tmp_path, "pool/5.txt", "classes/a/1.txt", "classes/b/2.txt")
    folder = make(
        tmp_path / "classes", a__pool="../../pool", a__to_b="../b", b__to_a="../a", b__copy="../a/1.txt", c="b"
    )
    os.rename(folder / "b/copy", folder / "b/copy.txt")
    with caplog.at_level(logging.WARNING):
        found = find_files(folder, TEXTS)
    through_b = ["2.txt", "copy.txt", "to_a/1.txt", "to_a/pool/5.txt"]
    of_a = ["1.txt", "pool/5.txt", "to_b/2.txt", "to_b/copy.txt"]
    expected = [f"a/{name}" for name in of_a] + [f"{name}/{path}" for name in "bc" for path in through_b]
    assert found == expected
    assert "listed again" in caplog.text and "'a/to_b'" in caplog.text


def test_files_that_are_passed_over_are_counted_once(tmp_path, caplog):
    make(tmp_path, "a/1.txt", "a/2.rar", "b/3.rar", "b/README", "b/4.PDF", "conversion_failures.csv")  # the last: ours
    with caplog.at_level(logging.WARNING):
        assert find_files(tmp_path, TEXTS) == ["a/1.txt"]
    (record,) = caplog.records
    why, what = "because texts have other suffixes", "4, for example 'a/2.rar'; .rar (2), no suffix (1), .pdf (1)"
    assert record.getMessage() == f"{tmp_path}: files skipped, {why}: {what}"


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    make(tmp_path, "a/1.txt", "b/2.txt")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match=r"Permission denied: .*b"):
        find_files(tmp_path, TEXTS)


def test_folders_of_frames_where_no_file_is_of_the_kind(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    kind = TEXTS._replace(frame_suffixes=(".jpg",))
    make(tmp_path, "a/c.1/i_1.jpg", "a/c.1/i_2.JPG", "a/d/1.jpg", "a/e/x.jpg", "a/e/y.jpg", "a/.f/1.jpg", "a/.f/2.jpg")
    assert find_files(tmp_path, kind) == ["a/c.1"] and "its texts are folders of frames: 1, for example" in caplog.text
    assert find_files(tmp_path / "a/c.1", kind) == ["."] and find_files(tmp_path, TEXTS) == []
    make(tmp_path, "a/a.txt")
    assert find_files(tmp_path, kind) == ["a/a.txt"] and "because texts have other suffixes: 5" in caplog.text


@pytest.mark.parametrize(("listed", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_missing_file_is_there_in_another_unicode_form(tmp_path, listed, on_disk):
    name = "\u00e4/caf\u00e9.mp4"
    make(tmp_path, normalize(on_disk, name))
    error = FileNotFoundError(2, "No such file or directory")
    reason = why_unopened(tmp_path / normalize(listed, name), error)
    assert reason.startswith("No such file or directory; its name exists in another Unicode form (NFC, NFD)")
    for gone in ("caf\u00e9.mp4", "\u00e4/x.mp4", "x.mp4"):
        assert why_unopened(tmp_path / gone, error) == "No such file or directory"
    assert why_unopened(tmp_path / name, PermissionError(13, "Permission denied")) == "Permission denied"
