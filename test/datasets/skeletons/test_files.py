"""Reading skeletons: the three formats agree, and what is said of files that cannot be read."""

import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from faults import copies_with_a_flipped_bit

from datasets.file_list import FileError, Given
from datasets.skeletons import files, find_skeletons, read_skeleton
from datasets.skeletons.files import sequences_in, split_sequence


def as_ntu(positions: np.ndarray) -> str:
    """NTU's text for [T, M, V, 3]; NaN is a joint that was not tracked, someone without any joint is left out."""
    lines = [str(len(positions))]
    for frame in positions:
        people = [(number, body) for number, body in enumerate(frame) if np.isfinite(body).any()]
        lines.append(str(len(people)))
        for number, body in people:
            lines += [f"7205759{number} 0 1 1 1 1 0 0.1 0.2 2", str(len(body))]
            for joint in body:
                seen = np.isfinite(joint).all()
                x, y, z = np.nan_to_num(joint)
                lines.append(f"{x} {y} {z} 0 0 0 0 0 0 0 0 {2 * int(seen)}")
    return "\n".join(lines) + "\n"


def as_kinetics(positions: np.ndarray) -> dict:
    """Kinetics-skeleton's JSON for [T, M, V, 3]; NaN is a joint of score 0. The first person is the most certain."""
    frames = []
    for number, frame in enumerate(positions):
        people = []
        for person, body in reversed(list(enumerate(frame))):
            seen = np.isfinite(body).all(axis=1)
            score = np.where(seen, 0.9 - 0.5 * person, 0)
            people.append({"pose": np.nan_to_num(body[:, :2]).ravel().tolist(), "score": score.tolist()})
        frames.append({"frame_index": number + 1, "skeleton": people})
    return {"data": frames, "label": "walking", "label_index": 1}


@pytest.fixture
def positions() -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(4, 2, 5, 3)).astype(np.float32)
    values[..., 2] = 0
    values[1, 0, 3] = np.nan
    return values


def test_the_formats_agree(tmp_path, positions):
    np.savez(tmp_path / "a.npz", walk=positions, bones=np.zeros((4, 2)))
    (tmp_path / "a.skeleton").write_text(as_ntu(positions))
    (tmp_path / "a.json").write_text(json.dumps(as_kinetics(positions)))
    for name in ("a.npz", "a.npz:walk", "a.skeleton", "a.json"):
        np.testing.assert_allclose(read_skeleton(tmp_path / name), positions, rtol=1e-6)


def test_people_are_told_apart_by_their_numbers_in_ntus_files(tmp_path, positions):
    positions[0, 0] = np.nan  # the first body that appears is the second
    (tmp_path / "a.skeleton").write_text(as_ntu(positions))
    np.testing.assert_allclose(read_skeleton(tmp_path / "a.skeleton"), positions[:, ::-1], rtol=1e-6)


def test_two_bodies_of_one_number_are_two(tmp_path, positions):
    (tmp_path / "a.skeleton").write_text(as_ntu(positions).replace("72057591 ", "72057590 "))
    np.testing.assert_allclose(read_skeleton(str(tmp_path / "a.skeleton")), positions, rtol=1e-6)


def test_frames_of_kinetics_are_where_their_indices_say(tmp_path, positions):
    content = as_kinetics(positions)
    for frame, index in zip(content["data"], (12, 10, 11, 14), strict=True):
        frame["frame_index"] = index
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = read_skeleton(str(tmp_path / "a.json"))
    assert found.shape[0] == 5 and np.isnan(found[3]).all()
    np.testing.assert_allclose(found[[2, 0, 1, 4]], positions, rtol=1e-6)
    for index, message in ((10, "two entries have one frame_index"), (10**9, "frame_index goes from 10 to 1000000000")):
        content["data"][3]["frame_index"] = index
        (tmp_path / "a.json").write_text(json.dumps(content))
        with pytest.raises(FileError, match=message):
            read_skeleton(str(tmp_path / "a.json"))


def test_an_array_may_have_one_person_or_two_coordinates(tmp_path, positions):
    np.savez(tmp_path / "a.npz", walk=positions[:, 0, :, :2])
    np.testing.assert_array_equal(read_skeleton(tmp_path / "a.npz"), positions[:, :1])


@pytest.mark.parametrize(
    ("axes", "coordinates", "looks"),
    [
        ((1, 0, 2, 3), 3, "[2, 40, 5, 3] would be 40 people in 2 frames and looks like [M, T, V, C]"),
        ((1, 0, 2, 3), 2, "[2, 40, 5, 2] would be 40 people in 2 frames and looks like [M, T, V, C]"),
        ((3, 0, 2, 1), 3, "[3, 40, 5, 2] would be 40 people in 3 frames and looks like [C, T, V, M]"),
    ],
)
def test_another_order_of_axes_is_told_with_its_remedy(tmp_path, axes, coordinates, looks):
    array = np.random.default_rng(0).normal(size=(40, 2, 5, coordinates))
    np.savez(tmp_path / "a.npz", walk=array.transpose(axes))
    with pytest.raises(FileError, match=re.escape(f"expected [T, M, V, 3], but {looks}")) as error:
        read_skeleton(tmp_path / "a.npz", num_people=2)
    remedy = re.search(r"save array.transpose\((.*?)\)", str(error.value))[1]
    np.testing.assert_array_equal(array.transpose(axes).transpose([int(axis) for axis in remedy.split(",")]), array)


@pytest.mark.parametrize(
    ("num_frames", "num_people", "kept"), [(1, 1, 1), (1, 10, 1), (3, 12, 1), (10, 12, 2), (20, 80, 1), (1, 12, 12)]
)
def test_short_sequences_and_crowds_are_read(tmp_path, num_frames, num_people, kept):
    np.savez(tmp_path / "a.npz", walk=np.ones((num_frames, num_people, 5, 3)))
    assert read_skeleton(tmp_path / "a.npz", num_people=kept).shape == (num_frames, num_people, 5, 3)


def test_a_changed_file_is_read_again(tmp_path, positions):
    np.savez(tmp_path / "a.npz", walk=positions)
    read_skeleton(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", walk=positions + 1)
    os.utime(tmp_path / "a.npz", (1, 1))
    np.testing.assert_array_equal(read_skeleton(tmp_path / "a.npz"), positions + 1)


def test_inputs_to_predict_on(tmp_path, positions):
    np.savez(tmp_path / "a.npz", walk=positions, run=positions, bones=np.zeros((4, 2)))
    (tmp_path / "b.skeleton").write_text(as_ntu(positions))
    paths = [Path(item.path).name for item in find_skeletons([tmp_path])]
    assert paths == ["a.npz:walk", "a.npz:run", "b.skeleton"]
    assert [item.path for item in find_skeletons([f"{tmp_path}/a.npz:run"])] == [f"{tmp_path}/a.npz:run"]
    assert split_sequence("a.skeleton:run") == ("a.skeleton:run", None)
    with pytest.raises(ValueError, match="it: expected the path of a skeleton, not an open file"):
        find_skeletons([Given("it", None)])
    with pytest.raises(FileNotFoundError, match=r"no file or folder of skeletons at .*; did you mean 'a.npz'"):
        find_skeletons([tmp_path / "aa.npz"])


def write_npz(**arrays):
    return lambda path: np.savez(path, **arrays)


def write(text):
    return lambda path: path.write_text(text)


GOOD = np.ones((2, 1, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("name", "make", "picked", "message"),
    [
        ("a.npz", lambda path: None, "", "there is no such file"),
        ("a.npz", write(""), "", "the file is empty"),
        ("a.npz", write("PK no"), "", "cannot be read as NPZ; is it complete"),
        ("a.npz", write_npz(walk=GOOD, run=GOOD), "", r"2 sequences are in it; name one, such as .*a.npz:walk"),
        ("a.npz", write_npz(walk=GOOD, run=GOOD), ":wlk", "no sequence 'wlk' is in it; did you mean 'walk'"),
        (
            "a.npz",
            write_npz(walk=GOOD[0, 0]),
            "",
            r"expected numbers \[T, V, 3\] or \[T, M, V, 3\], not float32 \[3, 3\]",
        ),
        ("a.npz", write_npz(walk=GOOD * np.nan), "", "it has no person: every joint is missing in every frame"),
        ("a.npz", write_npz(walk=GOOD * [1, np.nan, np.nan]), "", "it has no person: every joint is missing"),
        ("a.npz", write_npz(walk=np.array([[[[0, np.inf, 0]] * 2]])), "", "a joint has an infinite coordinate"),
        ("a.npz", write_npz(walk=GOOD * 1e30), "", r"a joint has an infinite coordinate, or one larger than 1e\+15"),
        ("a.skeleton", write("2\n1\n7 0\n"), "", "cannot be read as NTU's skeleton text; is it complete"),
        ("a.skeleton", write("1\n1\n7\n1\n0 0 0\n"), "", "cannot be read as NTU's skeleton text"),
        ("a.skeleton", write("3\n1\n"), "", "cannot be read as NTU's skeleton text"),
        ("a.skeleton", lambda path: path.write_bytes(b"\xff\xfe"), "", "cannot be read as NTU's skeleton text"),
        ("a.skeleton", write("1\n0\n"), "", "it has no person"),
        ("a.json", write('{"data": 3}'), "", "cannot be read as JSON of Kinetics-skeleton"),
        ("a.json", write("{}"), "", r"cannot be read as JSON of Kinetics-skeleton: KeyError\('data'\)"),
        ("a.json", write('{"data": [{"skeleton": [{"pose": [1], "score": [1, 1]}]}]}'), "", "cannot be read as JSON"),
        ("a.json", write('{"data": []}'), "", "it has no person"),
        ("a.txt", write("1"), "", "not a skeleton file; expected one that ends in .npz .skeleton .json"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, make, picked, message):
    make(tmp_path / name)
    with pytest.raises(FileError, match=message):
        read_skeleton(f"{tmp_path / name}{picked}")


@pytest.mark.parametrize("max_kept", [0, 2**28])
def test_an_array_that_is_not_numbers_does_not_hide_the_others(tmp_path, monkeypatch, max_kept):
    monkeypatch.setattr(files, "MAX_KEPT", max_kept)
    path = tmp_path / "a.npz"
    np.savez(path, walk=GOOD, names=np.array(["Ann", None], dtype=object), words=np.array(["Ann"]))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "by Ann")
    np.testing.assert_array_equal(read_skeleton(f"{path}:walk"), GOOD)
    for name, message in (("names", "cannot be read as an array of numbers"), ("words", "expected numbers"),
                          ("notes.txt", "expected numbers")):  # fmt: skip
        with pytest.raises(FileError, match=f"a.npz:{name}: {message}"):
            read_skeleton(f"{path}:{name}")


def test_whatever_bytes_an_archive_has_it_is_read_or_unreadable(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", walk=np.random.default_rng(0).normal(size=(20, 1, 5, 3)))
    num_damaged = 0
    for path in copies_with_a_flipped_bit(tmp_path / "a.npz", 300):
        try:
            (place,) = sequences_in(str(path))
            read_skeleton(place)
        except FileError:
            num_damaged += 1
    assert num_damaged > 200


def test_an_empty_archive_among_inputs_counts_as_unreadable(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"")
    assert [item.path for item in find_skeletons([tmp_path])] == [str(tmp_path / "a.npz")]
