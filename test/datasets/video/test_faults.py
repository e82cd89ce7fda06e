"""Every fault of a file, as training and evaluation meet it: it is named, and the other videos are unaffected."""

import os
from contextlib import nullcontext

import pytest
import torch
from encode import encode_video, number_frames
from faults import FAULTS, UNREADABLE, as_nobody
from torch.utils.data import DataLoader

from datasets.file_list import FileList
from datasets.video import (
    ColorSettings,
    EvalView,
    EvalViewSettings,
    EvenSampling,
    IndexStore,
    RandomSampling,
    TrainClips,
    TrainView,
    TrainViewSettings,
    VideoOpener,
    VideoViews,
)
from datasets.video.check import check_video
from datasets.video.index_store import IndexStoreWriter

SUFFIXES = ("mp4", "mkv")  # a truncated MP4 cannot be opened, a truncated Matroska file is read up to its end
ALL = [(suffix, fault) for suffix in SUFFIXES for fault in FAULTS]


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    paths = [encode_video(folder / f"clip.{suffix}", number_frames(30), gop=8) for suffix in SUFFIXES]
    return {path.suffix[1:]: path.read_bytes() for path in paths}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder of a test, so that the user nobody needs no rights in the folders above it."""
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    return tmp_path


def write(folder, contents, suffix):
    """Two intact videos, and one between them to be damaged."""
    names = ["a.mp4", f"b.{suffix}", "c.mkv"]
    for name in names:
        (folder / name).write_bytes(contents[name.split(".")[1]])
    return names


def keep_indices(folder, paths):
    """The index store that a check of the videos leaves."""
    with IndexStoreWriter(folder / "list.index") as writer:
        for path in paths:
            writer.write(*check_video(path, full=False))
    return IndexStore(folder / "list.index")


def make_samples(paths, *stores):
    """-> (clips to train on, clips to evaluate)"""
    opener, files = VideoOpener(timeout_seconds=30, stores=stores), FileList(paths, [0, 1, 2], paths)
    train = TrainView(TrainViewSettings(short_side=(36, 40), crop=32), ColorSettings())
    evaluation = EvalView(EvalViewSettings(short_side=36, crop=32))
    return (
        TrainClips(files, RandomSampling(4, 3), train, seed=0, opener=opener),
        VideoViews(files, EvenSampling(4, 3, 2), evaluation, opener),
    )


def assert_named(train, views, path, fault, expected):
    """The damaged file gives clips or a reason; the intact ones (rows 0 and 2) give the `expected` views."""
    found = views[1]
    if "failure" in found:
        assert found["failure"]["path"] == path and found["failure"]["reason"]
    else:
        assert fault not in UNREADABLE and found["views"].shape == (2, 3, 4, 32, 32)
    assert all(torch.equal(views[row]["views"], expected[row]) for row in (0, 2))
    for number in range(6):
        sample = train[number]
        assert sample["clip"].shape == (3, 4, 32, 32) and sample["label"] == sample["index"]
        for failure in sample["failures"]:
            assert failure["path"] == path and failure["reason"] and failure["sample"] == number
        assert fault not in UNREADABLE or sample["index"] != 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("suffix", "fault"), ALL)
def test_before_anything_is_known(suffix, fault, contents, folder, capfd):
    paths = write(folder, contents, suffix)
    _, views = make_samples(paths)
    expected = [views[row]["views"] for row in range(3)]
    FAULTS[fault](folder / f"b.{suffix}")
    with nullcontext() if fault != "forbidden" else as_nobody():
        assert_named(*make_samples(paths), paths[1], fault, expected)
    assert capfd.readouterr().err == ""


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("suffix", "fault"), ALL)
def test_between_check_and_training(suffix, fault, contents, folder):
    """Even if size and time do not change: the stored index is then that of another file."""
    paths = write(folder, contents, suffix)
    store, damaged = keep_indices(folder, paths), folder / f"b.{suffix}"
    _, views = make_samples(paths, store)
    expected = [views[row]["views"] for row in range(3)]
    before = damaged.stat()
    FAULTS[fault](damaged)
    if damaged.is_file():
        os.utime(damaged, ns=(before.st_atime_ns, before.st_mtime_ns))
    with nullcontext() if fault != "forbidden" else as_nobody():
        assert_named(*make_samples(paths, store), paths[1], fault, expected)


def test_all_faults_at_once_in_dataloader_workers(contents, tmp_path):
    """No fault ends a worker, and every fault that training meets is reported."""
    faults = [(suffix, fault) for suffix, fault in ALL if fault != "forbidden"]  # root may read it
    for number, (suffix, fault) in enumerate(faults):
        path = tmp_path / f"{number}.{suffix}"
        path.write_bytes(contents[suffix])
        FAULTS[fault](path)
    (tmp_path / "intact.mkv").write_bytes(contents["mkv"])
    names = [f"{number}.{suffix}" for number, (suffix, _) in enumerate(faults)] + ["intact.mkv"] * 3 * len(faults)
    paths = [str(tmp_path / name) for name in names]
    train, views = make_samples(paths[:3])
    train.items = views.items = FileList(paths, range(len(paths)), paths)

    def load(dataset, rows):
        batches = [rows[at : at + 4] for at in range(0, len(rows), 4)]
        workers = {"num_workers": 2, "multiprocessing_context": "fork", "collate_fn": list}
        return [item for batch in DataLoader(dataset, batch_sampler=batches, **workers) for item in batch]

    failures = [item["failure"] for item in load(views, range(len(faults))) if "failure" in item]
    assert len(faults) / 2 < len(failures) < len(faults)
    for failure in failures:
        assert failure["path"] == paths[failure["index"]] and failure["reason"]
    samples = load(train, range(len(paths)))
    assert not any("error" in sample for sample in samples)
    reported = {failure["index"] for sample in samples for failure in sample["failures"]}
    assert reported >= {row for row, (_, fault) in enumerate(faults) if fault in UNREADABLE}
    # A file that fails in one place may be read in another. Either way each row's own sample says so.
    rows = [(sample["failures"] or [sample])[0]["index"] for sample in samples]
    assert sorted(rows) == list(range(len(paths)))
