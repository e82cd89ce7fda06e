"""The script that checks videos, and training that uses its index."""

import csv
import os
import shutil
import tarfile
import time

import pytest
from encode import encode_video, number_frames
from PIL import Image

from datasets.file_list import FileError
from datasets.image_file import SUFFIXES
from datasets.video import (
    ColorSettings,
    EvalView,
    EvalViewSettings,
    EvenSampling,
    TrainView,
    TrainViewSettings,
    VideoOpener,
    VideoViews,
    read_videos,
)
from datasets.video import check as check_module
from datasets.video.dataiter import TrainClips
from datasets.video.index_store import find_store
from datasets.video.sampling import RandomSampling
from settings import SettingsError
from tools.check_videos import main
from tools.preparation import video_checks


@pytest.fixture
def videos(tmp_path):
    """A list of good and bad videos, one of them listed twice."""
    folder = tmp_path / "videos"
    folder.mkdir()
    encode_video(folder / "good.mp4", number_frames(20), gop=5)
    shutil.copy(folder / "good.mp4", folder / 'it\'s [a] "b", c.mp4')
    (folder / "cut.mp4").write_bytes((folder / "good.mp4").read_bytes()[:900])
    (folder / "folder.mp4").mkdir()
    (folder / "empty.mp4").touch()
    os.mkfifo(folder / "pipe.mp4")
    names = [
        "good.mp4",
        "cut.mp4",
        'it\'s [a] "b", c.mp4',
        "folder.mp4",
        "empty.mp4",
        "pipe.mp4",
        "gone.mp4",
        "good.mp4",
    ]
    path = folder / "list.txt"
    path.write_text("".join(f"{number} 0 {name}\n" for number, name in enumerate(names)))
    return path


def run(*arguments):
    """-> (exit status, rows of the table by the name of the video)"""
    try:
        main([*map(str, arguments), "--workers", "2"])
        status = 0
    except SystemExit as error:
        status = error.code
    table = arguments[0].with_name(f"{arguments[0].name}.checked.csv")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return status, {os.path.basename(row["path"]): row for row in rows}, rows


def count_checks(monkeypatch, folder):
    """Records, as files in `folder`, which videos are really checked; checks run in forked processes."""
    original = check_module.check_video

    def check_video(path, full):
        (folder / os.path.basename(path)).touch()
        return original(path, full)

    monkeypatch.setattr(video_checks, "check_video", check_video)


def seen(folder):
    names = set(os.listdir(folder))
    for name in names:
        (folder / name).unlink()
    return names


def test_table_and_exit_status(videos, caplog):
    caplog.set_level("INFO")
    status, rows, in_order = run(videos)
    assert status == 1 and "8 videos, 5 with a fault" in caplog.text
    assert [row["path"] for row in in_order][::7] == [str(videos.parent / "good.mp4")] * 2
    assert {name: row["fault"].split(":")[0] for name, row in rows.items()} == {
        "good.mp4": "",
        "cut.mp4": "cannot be opened as a video",
        'it\'s [a] "b", c.mp4': "",
        "folder.mp4": f"is a directory without images (names that end in {' '.join(SUFFIXES)})",
        "empty.mp4": "is empty (0 bytes)",
        "pipe.mp4": "is not a regular file",
        "gone.mp4": "No such file or directory",
    }
    good = rows["good.mp4"]
    assert (good["codec"], good["width"], good["height"], good["frames"], good["fps"], good["seconds"]) == (
        "h264", "64", "48", "20", "25.0", "0.8",
    )  # fmt: skip
    assert good["keyframes"] == "4" and good["bytes"] == str((videos.parent / "good.mp4").stat().st_size)


def test_only_what_changed_is_checked_again(videos, tmp_path, monkeypatch):
    folder = tmp_path / "seen"
    folder.mkdir()
    count_checks(monkeypatch, folder)
    bad = {"cut.mp4", "folder.mp4", "empty.mp4", "pipe.mp4", "gone.mp4"}
    good = {"good.mp4", 'it\'s [a] "b", c.mp4'}
    run(videos)
    assert seen(folder) == good | bad
    _, again, _ = run(videos)
    assert seen(folder) == bad and again["good.mp4"]["frames"] == "20"
    run(videos, "--full")
    assert seen(folder) == good | bad
    run(videos)
    assert seen(folder) == bad
    encode_video(videos.parent / "good.mp4", number_frames(30))
    (videos.parent / 'it\'s [a] "b", c.mp4').unlink()
    _, rows, _ = run(videos)
    assert seen(folder) == good | bad
    assert rows["good.mp4"]["frames"] == "30" and rows['it\'s [a] "b", c.mp4']["fault"].startswith("No such file")


def test_folder_of_intact_videos(motion_videos, tmp_path):
    shutil.copytree(motion_videos / "val", tmp_path / "val")
    status, rows, _ = run(tmp_path / "val", "--full")
    assert status == 0 and len(rows) == 9 and all(int(row["frames"]) > 10 for row in rows.values())


def test_a_video_that_hangs_is_a_fault(videos, monkeypatch):
    original = check_module.check_video
    monkeypatch.setattr(
        video_checks,
        "check_video",
        lambda path, full: time.sleep(60) if path.endswith("good.mp4") else original(path, full),
    )
    status, rows, _ = run(videos, "--timeout", "4")
    assert status == 1 and rows["good.mp4"]["fault"] == "took longer than 4 s"
    assert rows['it\'s [a] "b", c.mp4']["fault"] == ""


def test_training_takes_indices_from_the_store(motion_videos, tmp_path, monkeypatch):
    shutil.copytree(motion_videos, tmp_path / "motion")
    videos = tmp_path / "motion" / "train.txt"
    view = TrainView(TrainViewSettings(short_side=(36, 40), crop=32), ColorSettings())

    def clips(store):
        opener = VideoOpener(stores=(store,) if store else ())
        samples = TrainClips(read_videos(videos), RandomSampling(4, 3), view, seed=0, opener=opener)
        return [samples[number]["clip"] for number in range(6)]

    expected = clips(None)
    assert find_store(videos) is None
    assert run(videos)[0] == 0
    monkeypatch.setattr("datasets.video.reader.scan_video", lambda *_: pytest.fail("scanned again"))
    assert all(a.equal(b) for a, b in zip(clips(find_store(videos)), expected, strict=True))


def test_members_of_tar_files_and_folders_of_frames(tmp_path, monkeypatch):
    encode_video(tmp_path / "x.mp4", number_frames(20))
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(tmp_path / "x.mp4", "f/x.mp4")
    (tmp_path / "clip").mkdir()
    for number in range(1, 4):
        Image.new("RGB", (32, 24)).save(tmp_path / "clip" / f"img_{number}.jpg")
    videos = tmp_path / "list.txt"
    videos.write_text("0 0 s.tar#f/x.mp4\n1 1 clip\n")
    status, rows, _ = run(videos)
    assert status == 0 and [rows[name]["frames"] for name in ("x.mp4", "clip")] == ["20", "3"]
    (tmp_path / "seen").mkdir()
    count_checks(monkeypatch, tmp_path / "seen")
    run(videos)
    assert seen(tmp_path / "seen") == set()
    monkeypatch.setattr("datasets.video.reader.scan_video", lambda *_: pytest.fail("scanned again"))
    opener = VideoOpener(stores=(find_store(videos),))
    for item, num_frames in zip(read_videos(videos), (20, 3), strict=True):
        with opener(item.path) as video:
            assert video.num_frames == num_frames
    os.utime(tmp_path / "s.tar", ns=(0, 0))
    assert find_store(videos).find(tmp_path / "s.tar#f/x.mp4") is None


def test_index_elsewhere(videos, tmp_path):
    index = tmp_path / "notes" / "all.index"
    index.parent.mkdir()
    before = sorted(os.listdir(videos.parent))
    with pytest.raises(SystemExit):
        main([str(videos), "--index", str(index)])
    assert sorted(os.listdir(videos.parent)) == before  # nothing is written beside the videos
    assert sorted(os.listdir(index.parent)) == ["all.index", "list.txt.checked.csv"]
    assert find_store(videos) is None and find_store(videos, index).find(videos.parent / "good.mp4") is not None
    with pytest.raises(FileNotFoundError, match="no index of videos at"):
        find_store(videos, tmp_path / "other.index")
    text = videos.read_text()
    with pytest.raises(SettingsError, match=r"list\.txt is the input .*; choose another place with --index"):
        main([str(videos), "--index", str(videos)])
    with pytest.raises(SettingsError, match=r"two outputs would be written to .*list\.txt\.checked\.csv; choose"):
        main([str(videos), "--index", str(tmp_path / "list.txt.checked.csv")])
    assert videos.read_text() == text
    with pytest.raises(FileError, match="does its folder exist, is it writable"):
        main([str(videos), "--index", str(tmp_path / "nowhere" / "all.index")])


def test_a_video_that_is_gone_after_the_check_is_named(videos):
    run(videos)
    (videos.parent / "good.mp4").unlink()
    view = EvalView(EvalViewSettings(short_side=40, crop=32), num_crops=1)
    views = VideoViews(read_videos(videos), EvenSampling(4, 3, 1), view, VideoOpener(stores=(find_store(videos),)))
    assert views[0]["failure"]["reason"] == "No such file or directory"
    assert views[2]["views"].shape == (1, 3, 4, 32, 32)


def test_missing_and_malformed_lists(tmp_path):
    with pytest.raises(SettingsError, match="no list or folder of videos at"):
        main([str(tmp_path / "list.txt")])
    (tmp_path / "list.txt").write_text("a.mp4 0\n")
    with pytest.raises(SettingsError, match=r"list.txt:1: expected `id label path`"):
        main([str(tmp_path / "list.txt")])
