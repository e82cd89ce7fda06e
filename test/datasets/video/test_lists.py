import logging
import pickle
import random
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from encode import encode_video, number_frames

from datasets.dataloader import train_loader
from datasets.file_list import FileItem, read_class_names
from datasets.samples import TrainSamples
from datasets.video import VideoReader
from datasets.video.lists import VIDEOS, find_videos, read_videos


def rows(videos):
    return [(video.id, video.label, video.path) for video in videos]


def write(path, text, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, **kwargs)
    return path


# ---- list files


@pytest.mark.parametrize("between", ["\t", " ", " \t "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_list_file(tmp_path, between, end):
    lines = [("7", "1", "a b/c  d.mp4"), ("8", "-1", "é.mp4"), ("x", "0", "/elsewhere/e.mp4")]
    text = end.join(["", *(between.join(line) for line in lines), "", ""])
    path = write(tmp_path / "list.txt", text, encoding="utf-8-sig", newline="")
    assert rows(read_videos(path)) == [
        ("7", 1, str(tmp_path / "a b/c  d.mp4")),
        ("8", -1, str(tmp_path / "é.mp4")),
        ("x", 0, "/elsewhere/e.mp4"),
    ]
    root = tmp_path / "videos"
    root.mkdir()
    assert read_videos(path, root=root)[0].path == str(root / "a b/c  d.mp4")


def test_list_of_unlabeled_videos(tmp_path):
    videos = read_videos(write(tmp_path / "list.txt", "0 -1 a.mp4\n1 -1 b.mp4"))
    assert (videos.num_classes, videos.class_names, videos.labels.tolist()) == (0, (), [-1, -1])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.mp4 1", r"list.txt:2: expected `id label path`, separated by tabs or spaces; found 'a.mp4 1'"),
        ("1 one a.mp4", r"list.txt:2: .*but the label 'one' is not a whole number; found '1 one a.mp4'"),
        ("1 2.0 a.mp4", r"list.txt:2: .*'2.0' is not a whole number"),
        ("1 3 a.mp4", r"list.txt:2: label 3: expected 0 to 2 for 3 classes, or -1 for unknown; found '1 3 a.mp4'"),
        ("1 -2 a.mp4", r"list.txt:2: label -2: expected 0 to 2"),
    ],
)
def test_bad_lines(tmp_path, line, message):
    path = write(tmp_path / "list.txt", f"0 0 ok.mp4\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_videos(path, class_names=["a", "b", "c"])


def test_missing_and_empty_sources(tmp_path):
    write(tmp_path / "lists" / "kinetics_train.txt", "\n \n")
    with pytest.raises(FileNotFoundError, match=r"no list of videos at .*did you mean 'kinetics_train.txt'\?"):
        read_videos(tmp_path / "lists" / "kinetic_train.txt")
    with pytest.raises(FileNotFoundError, match=r"has no 'list'; did you mean 'lists'\?"):
        read_videos(tmp_path / "list" / "kinetics_train.txt")
    with pytest.raises(FileNotFoundError, match="no root folder of the videos at"):
        read_videos(tmp_path / "lists" / "kinetics_train.txt", root=tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"kinetics_train.txt is empty"):
        read_videos(tmp_path / "lists" / "kinetics_train.txt")
    (tmp_path / "binary.txt").write_bytes(b"0 1 \xff\xfe")
    with pytest.raises(ValueError, match="is not UTF-8 text, see byte 4"):
        read_videos(tmp_path / "binary.txt")
    path = write(tmp_path / "list.txt", "0 0 a.mp4")
    with pytest.raises(ValueError, match=r"split='val', but .*list.txt has none"):
        read_videos(path, split="val")


# ---- folders


def test_folder_per_class(tmp_path, caplog):
    for name in ("b c/1.mp4", "b c/deep/er/2.AVI", "a/3.webm", "a/.hidden.mp4", ".git/4.mp4", "a/notes.txt", "5.mp4"):
        write(tmp_path / name, "")
    (tmp_path / "empty").mkdir()
    with caplog.at_level(logging.WARNING):
        videos = read_videos(tmp_path)
    assert videos.class_names == ("a", "b c", "empty") and "no videos in subfolder empty" in caplog.text
    assert rows(videos) == [
        ("a/3.webm", 0, str(tmp_path / "a/3.webm")),
        ("b c/1.mp4", 1, str(tmp_path / "b c/1.mp4")),
        ("b c/deep/er/2.AVI", 1, str(tmp_path / "b c/deep/er/2.AVI")),
    ]
    named = read_videos(tmp_path, class_names=["empty", "b c", "x", "a"])
    assert named.labels.tolist() == [3, 1, 1] and named.num_classes == 4
    with pytest.raises(ValueError, match=r"subfolder 'b c' is not one of the 3 class names; did you mean 'b_c'\?"):
        read_videos(tmp_path, class_names=["a", "b_c", "empty"])


def test_folders_of_frames(tmp_path):
    for name in ("b/clip.1/img_1.jpg", "b/clip.1/img_2.jpg", "a/x/1.png", "a/x/2.png"):
        write(tmp_path / name, "")
    assert [(video.id, video.label) for video in read_videos(tmp_path)] == [("a/x", 0), ("b/clip.1", 1)]
    with pytest.raises(
        ValueError, match=r"no videos in any of its 1 subfolders; .* or folders of numbered images such"
    ):
        read_videos(tmp_path / "b")  # the clips are not in classes


def test_folders_without_videos(tmp_path):
    with pytest.raises(ValueError, match="has no subfolders; expected one for each class"):
        read_videos(tmp_path)
    write(tmp_path / "a" / "b.txt", "")
    with pytest.raises(ValueError, match=r"no videos in any of its 1 subfolders; expected files that end in .*\.mp4"):
        read_videos(tmp_path)


# ---- Kinetics


def test_kinetics_csv(tmp_path, caplog):
    names = ["riding a bike/-abc_000005_000015.mp4", "juggling_balls/def_000000_000010.mkv", "ghi_000123_000133.mp4"]
    for name in names:
        write(tmp_path / "videos" / name, "")
    header = "label,youtube_id,time_start,time_end,split,is_cc"
    lines = [
        "riding a bike,-abc,5,15,val,0",
        "juggling balls,def,0,10,val,0",
        "riding a bike,ghi,123,133,val,0",
        "riding a bike,gone,1,11,val,0",
        "riding a bike,other,1,11,train,0",
    ]
    path = write(tmp_path / "annotations.csv", "\n".join([header, *lines]))
    with caplog.at_level(logging.WARNING):
        videos = read_videos(path, root=tmp_path / "videos", split="val")
    assert "1 of 4 videos are not under" in caplog.text and "gone_000001_000011" in caplog.text
    assert videos.class_names == ("juggling balls", "riding a bike")
    gone = str(tmp_path / "videos" / "riding a bike/gone_000001_000011.mp4")
    assert [video.path for video in videos] == [*(str(tmp_path / "videos" / name) for name in names), gone]
    assert videos.labels.tolist() == [1, 0, 1, 1] and videos[0].id == "-abc_000005_000015"
    assert [video.path for video in videos.missing()] == [gone]
    with pytest.raises(ValueError, match="no videos of split 'vall'"):
        read_videos(path, split="vall")
    with pytest.raises(ValueError, match=r"csv:2: label 'riding a bike' is not .*; did you mean 'riding bike'"):
        read_videos(path, class_names=["riding bike", "juggling balls"])


def test_other_csv(tmp_path):
    test = write(tmp_path / "test.csv", "youtube_id,time_start,time_end,split\nabc,1,11,test\n")
    assert read_videos(test, class_names=["a"]).labels.tolist() == [-1]
    with pytest.raises(ValueError, match=r"no column time_end, youtube_id; expected Kinetics annotations"):
        read_videos(write(tmp_path / "bad.csv", "label,time_start\na,1\n"))
    for times in ("1,", "1,inf", "nan,2", "-1,2", "1,1e300", "1_0,20"):
        with pytest.raises(ValueError, match=r"late.csv:2: expected time_start and time_end in seconds"):
            read_videos(write(tmp_path / "late.csv", f"youtube_id,time_start,time_end\nabc,{times}\n"))


def test_labels_of_a_kinetics_csv(tmp_path):
    lines = ["label,youtube_id,time_start,time_end", "x,a,0,10", "x ,b,0,10", ",c,0,10", '"y, ""z""",d,1e1,20.0', ""]
    videos = read_videos(write(tmp_path / "list.csv", "\ufeff" + "\r\n".join(lines), encoding="utf-8", newline=""))
    assert videos.class_names == ("x", 'y, "z"') and videos.labels.tolist() == [0, 0, -1, 1]
    assert videos[3].id == "d_000010_000020"


# ---- UCF101, HMDB51


def test_ucf101(tmp_path):
    write(tmp_path / "classInd.txt", "1 ApplyEyeMakeup\r\n2 ApplyLipstick\r\n")
    train = write(tmp_path / "trainlist01.txt", "ApplyLipstick/v_b_g01.avi 2\nApplyEyeMakeup/v_a_g08.avi 1\n")
    test = write(tmp_path / "testlist01.txt", "ApplyLipstick/v_b_g02.avi\n")
    videos = read_videos(train)
    assert rows(videos)[0] == ("v_b_g01", 1, str(tmp_path / "ApplyLipstick/v_b_g01.avi"))
    assert videos.labels.tolist() == [1, 0] and read_videos(test).labels.tolist() == [1]
    assert videos.class_names == ("ApplyEyeMakeup", "ApplyLipstick")
    write(test, "ApplyLipstik/v_b_g02.avi")
    with pytest.raises(ValueError, match=r"class 'ApplyLipstik' is not .*; did you mean 'ApplyLipstick'"):
        read_videos(test)
    write(test, "v_b_g02.avi 1")
    with pytest.raises(ValueError, match=r"testlist01.txt:1: expected `class/video.avi`"):
        read_videos(test)


def test_hmdb51(tmp_path):
    folder = tmp_path / "splits"
    for number in (1, 2):
        write(folder / f"brush_hair_test_split{number}.txt", f"x.avi {number} \ny.avi 0 \nz.avi 1 \n")
        write(folder / f"wave_test_split{number}.txt", "w.avi 2 \n")
    assert rows(read_videos(folder, root=tmp_path, split="train1")) == [
        ("x", 0, str(tmp_path / "brush_hair/x.avi")),
        ("z", 0, str(tmp_path / "brush_hair/z.avi")),
    ]
    videos = read_videos(folder, split="test2")
    assert [video.id for video in videos] == ["x", "w"] and videos.class_names == ("brush_hair", "wave")
    with pytest.raises(ValueError, match=r"split=None of HMDB51 in .*expected train1 to train3 or test1 to test3"):
        read_videos(folder)


# ---- class names


@pytest.mark.parametrize(
    "text", ["0\triding a bike\n1\ttai chi\n", "2 tai chi\n1 riding a bike\n", "riding a bike\ntai chi"]
)
def test_class_names(tmp_path, text):
    table = write(tmp_path / "mapping_table.txt", text)
    assert read_class_names(table) == ("riding a bike", "tai chi")
    path = write(tmp_path / "list.txt", "0 1 a.mp4")
    assert read_videos(path, class_names=table).class_names == ("riding a bike", "tai chi")


def test_class_names_with_gaps(tmp_path):
    table = write(tmp_path / "mapping_table.txt", "0 a\n1 b\n3 c\n")
    with pytest.raises(ValueError, match=r"the 3 indices must be 0 to 2, or 1 to 3, each once; found 3 .* from 0 to 3"):
        read_class_names(table)


# ---- the list itself


@pytest.fixture
def large_list(tmp_path):
    """A list as long as that of Kinetics."""
    line = "{0}\t{1}\ttrain/class {1}/abcdefghijk_{0:06d}_000010.mp4\n"
    return write(tmp_path / "list.txt", "".join(line.format(i, i % 400) for i in range(240_000)))


def test_large_list_is_small(large_list):
    videos = read_videos(large_list)
    assert len(videos) == 240_000 and videos.num_classes == 400
    pickled = pickle.dumps(videos)
    assert len(pickled) < 25e6
    copy = pickle.loads(pickled)
    path = str(large_list.parent / "train/class 399/abcdefghijk_239999_000010.mp4")
    assert videos[239_999] == copy[-1] == FileItem(239_999, "239999", 399, path)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.needs("proc")
def test_large_list_is_quick_and_shared_by_workers(large_list):
    start = time.process_time()
    videos = read_videos(large_list)
    assert time.process_time() - start < 2
    with ProcessPoolExecutor(2, get_context("fork"), initializer=share, initargs=(videos,)) as pool:
        for added in pool.map(memory_of_an_epoch, range(4)):
            assert added < 8e6  # bytes; the list itself is three times as large


class LabelsOnly(TrainSamples):
    """Training samples that read no file."""

    def read(self, item, rng):
        return {"number": torch.tensor(rng.integers(1000))}


@pytest.mark.slow
@pytest.mark.alone
def test_an_epoch_of_a_large_list(large_list, record_property):
    """Each video comes up once, and workers receive little data; no video is read."""
    start = time.process_time()
    samples = LabelsOnly(read_videos(large_list), seed=1)
    record_property("seconds_to_load", time.process_time() - start)
    assert len(pickle.dumps(samples)) < 25e6  # what a spawned worker receives

    start, size, seen = time.process_time(), 1000, []
    workers = {"num_workers": 0, "worker_start": None, "timeout_seconds": 0, "pin_memory": False}
    for batch in train_loader(samples, 240, 240, size, 0, 1, **workers):  # the second epoch
        assert torch.equal(batch["label"], batch["index"] % 400)
        seen.append(batch["index"])
    seconds = time.process_time() - start
    record_property("seconds_for_an_epoch", seconds)
    assert torch.cat(seen).sort().values.equal(torch.arange(240_000))
    assert seconds < 120  # half a millisecond per video; reading one takes fifty


def share(videos):
    global shared_videos
    shared_videos = videos


def memory_of_an_epoch(seed):
    """How many bytes of its own a forked process gains by reading every item of the list."""
    before = private_bytes()
    for index in random.Random(seed).sample(range(len(shared_videos)), len(shared_videos) // 4):
        assert shared_videos[index].label == index % 400
    for item in shared_videos:
        assert item.path
    return private_bytes() - before


def private_bytes():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


# container and codec of the files, and the suffixes under which they are found; .amv needs sound beside its frames
FORMATS = {
    ("mp4", "libx264"): ".mp4 .m4v .mp4v .f4v",
    ("mov", "libx264"): ".mov .qt",
    ("mov", "jpeg2000"): ".mj2",
    ("3gp", "libx264"): ".3gp",
    ("3g2", "libx264"): ".3g2",
    ("ismv", "libx264"): ".ismv",
    ("matroska", "libx264"): ".mkv .mk3d",
    ("webm", "libvpx"): ".webm",
    ("avi", "mpeg4"): ".avi .divx .xvid",
    ("asf", "msmpeg4"): ".asf .wmv .wm .dvr-ms",
    ("flv", "flv"): ".flv",
    ("mpeg", "mpeg2video"): ".mpg .mpeg .mpe .m2p .mod .vro .evo",
    ("vob", "mpeg2video"): ".vob",
    ("mpeg1video", "mpeg1video"): ".m1v",
    ("mpeg2video", "mpeg2video"): ".m2v",
    ("mpegts", "mpeg2video"): ".ts .tp .trp .m2t .tod .m2ts .mts",
    ("ogg", "libvpx"): ".ogv .ogm",
    ("rm", "rv20"): ".rm .rmvb",
    ("mxf", "mpeg2video"): ".mxf",
    ("gxf", "mpeg2video"): ".gxf",
    ("wtv", "mpeg2video"): ".wtv",
    ("dv", "dvvideo"): ".dv",
    ("nut", "mpeg4"): ".nut",
    ("ivf", "libvpx"): ".ivf",
    ("yuv4mpegpipe", "rawvideo"): ".y4m",
    ("h261", "h261"): ".h261",
    ("h263", "h263"): ".h263",
    ("h264", "libx264"): ".h264 .264 .avc",
    ("hevc", "libx265"): ".hevc .h265 .265",
    ("obu", "libsvtav1"): ".obu",
    ("mjpeg", "mjpeg"): ".mjpeg .mjpg",
    ("gif", "gif"): ".gif",
}


@pytest.mark.parametrize(("container", "codec"), FORMATS)
def test_files_with_a_listed_suffix_are_videos(tmp_path, container, codec):
    height, width = {"dv": (576, 720), "gxf": (576, 720), "h261": (144, 176)}.get(container, (96, 128))
    pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    suffixes = FORMATS[container, codec].split()
    path = tmp_path / f"clip{suffixes[0]}"
    encode_video(path, number_frames(5, height, width), codec=codec, pix_fmt=pix_fmt, format=container)
    for suffix in suffixes[1:]:
        shutil.copy(path, path.with_suffix(suffix))
    videos = find_videos([tmp_path])
    assert len(videos) == len(suffixes)
    for video in videos:
        with VideoReader(video.path) as reader:
            assert len(reader.get_frames(range(reader.num_frames))) == 5


def test_the_table_of_suffixes():
    assert sorted([*" ".join(FORMATS.values()).split(), ".amv"]) == list(VIDEOS.suffixes)


def test_find_videos(tmp_path):
    for name in ("b/2.mp4", "a.avi", ".c.mp4", "d.txt"):
        write(tmp_path / "videos" / name, "")
    alone = write(tmp_path / "e.mp4", "")
    videos = find_videos([tmp_path / "videos", alone])
    assert [video.path for video in videos] == [str(tmp_path / "videos" / name) for name in ("a.avi", "b/2.mp4")] + [
        str(alone)
    ]
    assert videos.labels.tolist() == [-1, -1, -1]


def test_find_members_of_tar_files_and_folders_of_frames(tmp_path):
    for name in ("s.tar", "clip/img_1.jpg", "clip/img_2.jpg", "more/a/1.jpg", "more/a/2.jpg", "more/b/1.jpg"):
        write(tmp_path / name, "")
    places = [f"{tmp_path}/s.tar#f/x.mp4", tmp_path / "clip", tmp_path / "more"]
    expected = [tmp_path / name for name in ("s.tar#f/x.mp4", "clip", "more/a")]
    assert [video.path for video in find_videos(places)] == list(map(str, expected))
    with pytest.raises(FileNotFoundError, match=r"no file or folder of videos at .*t\.tar: .*did you mean 's\.tar'"):
        find_videos([f"{tmp_path}/t.tar#f/x.mp4"])
