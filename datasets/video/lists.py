"""Lists of videos with their labels, in the common formats.

`read_videos` takes the list files of https://github.com/facebookresearch/GloRe (`id label path`), a folder with one
subfolder per class, Kinetics annotations (CSV), and the official splits of UCF101 and HMDB51. Unlike the authors' code,
it drops nothing and caches nothing: a missing file stays in the list, fails when it is read, and lowers the coverage
that an evaluation reports.
"""

import logging
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from datasets.class_table import class_names_from, label_finder, read_class_names
from datasets.file_list import UNLABELED, FileList, Given, find_unlabeled, read_folder, read_list
from datasets.find_files import FileKind, find_files, is_passed_over
from datasets.image_file import SUFFIXES as IMAGE_SUFFIXES
from datasets.text_files import bad_line, existing_path, numbered_lines, parse_number, read_csv
from datasets.video.shards import split_member

log = logging.getLogger(__name__)

VIDEOS = FileKind(
    "videos",
    (
        *(".264", ".265", ".3g2", ".3gp", ".amv", ".asf", ".avc", ".avi", ".divx", ".dv", ".dvr-ms", ".evo", ".f4v"),
        *(".flv", ".gif", ".gxf", ".h261", ".h263", ".h264", ".h265", ".hevc", ".ismv", ".ivf", ".m1v", ".m2p"),
        *(".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mod", ".mov", ".mp4"),
        *(".mp4v", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb"),
        *(".tod", ".tp", ".trp", ".ts", ".vob", ".vro", ".webm", ".wm", ".wmv", ".wtv", ".xvid", ".y4m"),
    ),
    frame_suffixes=IMAGE_SUFFIXES,
)
"""What PyAV's own FFmpeg opens and decodes, by the suffixes that cameras and programs use."""


def read_videos(
    source: str | Path,
    root: str | Path | None = None,
    class_names: str | Path | Sequence[str] | None = None,
    split: str | None = None,
) -> FileList:
    """The videos that `source` names.

    Args:
        source: one of
            - a list file: `id label path` per line, separated by tabs or spaces, label -1 for unknown;
            - a folder with one subfolder per class, labels in sorted order of their names; a video is a file, or, if
              there are no video files, a folder of numbered images;
            - a Kinetics CSV (label, youtube_id, time_start, time_end, split), for files named
              `<youtube_id>_<start>_<end>`, times as six digits, anywhere under `root`;
            - UCF101's `trainlist01.txt`, `testlist01.txt`, ..., with its `classInd.txt` beside it;
            - the folder of HMDB51's `<class>_test_split1.txt`, ... files, with split="train1" or "test1", ...
        root: folder that paths are relative to; None: the folder of `source`, or `source` if it is a folder.
        class_names: names in order of their labels, or a file of them, see `read_class_names`; None: from `source`.
        split: the split to keep of a CSV, or the split of HMDB51.

    Raises:
        FileNotFoundError: no such source, root or class file; suggests a similar name.
        ValueError: a malformed line (with file and line number), a label out of range, or an empty list.
    """
    source = existing_path(Path(source).expanduser(), "list of videos")
    if root is not None:
        root = existing_path(Path(root).expanduser(), "root folder of the videos")
    if isinstance(class_names, str | Path):
        class_names = read_class_names(class_names)
    elif class_names is not None:
        class_names = class_names_from(class_names, "class_names")

    if source.is_dir() and _hmdb51_files(source, "_test_split?.txt"):
        return _read_hmdb51(source, root or source, class_names, split)
    if source.suffix.lower() == ".csv":
        return _read_kinetics(source, root or source.parent, class_names, split)
    if split is not None:
        raise ValueError(f"split={split!r}, but {source} has none; only a Kinetics CSV and HMDB51's folder do")
    if source.is_dir():
        return read_folder(source, root or source, class_names, VIDEOS)
    if re.fullmatch(r"(train|test)list\d+\.txt", source.name):
        return _read_ucf101(source, root or source.parent, class_names)
    return read_list(source, root or source.parent, class_names)


def _read_kinetics(path: Path, root: Path, class_names: Sequence[str] | None, split: str | None) -> FileList:
    """A video with a blank label, or in a table without labels, is unlabeled, as in a test set."""
    wanted = {"youtube_id", "time_start", "time_end"} | ({"split"} if split else set())
    rows = read_csv(path, wanted, "Kinetics annotations")
    rows = [(number, row) for number, row in rows if split is None or row["split"] == split]
    if not rows:
        of_split = f" of split {split!r}" if split else ""
        raise ValueError(f"{path} has no videos{of_split}; expected a line for each")
    if class_names is None:
        names = sorted({row["label"] for _, row in rows if row.get("label")})
        class_names = class_names_from(names, str(path)) if names else ()
    label_of = label_finder(class_names)

    there = {Path(video).stem: video for video in find_files(root, VIDEOS)}
    ids, labels, paths, missing = [], [], [], []
    for number, row in rows:
        name = _kinetics_name(path, number, row)
        ids.append(name)
        label = row.get("label")
        labels.append(label_of(label, f"{path}:{number}: label {label!r}") if label else UNLABELED)
        if name not in there:
            missing.append(name)
        paths.append(there.get(name, os.path.join(label or "", f"{name}.mp4")))
    if missing:
        log.warning(
            "%s: %d of %d videos are not under %s, for example %s; those in the list count as unreadable",
            path, len(missing), len(rows), root, ", ".join(missing[:3]),
        )  # fmt: skip
    return FileList(ids, labels, paths, class_names, str(root))


def _kinetics_name(path: Path, number: int, row: dict[str, str]) -> str:
    """The name of a row's video, without suffix: `<youtube_id>_<start>_<end>`, whole seconds in six digits."""
    try:
        times = [parse_number(row[column]) for column in ("time_start", "time_end")]
    except ValueError:
        times = [-1.0]
    if not all(0 <= time < 1e6 for time in times):
        expected = "expected time_start and time_end in seconds, from 0 to 999999"
        raise bad_line(path, number, ",".join(row.values()), expected)
    if not row["youtube_id"]:
        raise bad_line(path, number, ",".join(row.values()), "expected a youtube_id")
    start, end = map(int, times)
    return f"{row['youtube_id']}_{start:06d}_{end:06d}"


def _read_ucf101(path: Path, root: Path, class_names: Sequence[str] | None) -> FileList:
    """Lines `Class/name.avi`; training lists add the class's number in classInd.txt, which counts from 1."""
    class_names = class_names or read_class_names(path.parent / "classInd.txt")
    label_of = label_finder(class_names)
    labels, paths = [], []
    for number, line in numbered_lines(path):
        fields = line.split()
        name = os.path.dirname(fields[0])
        if len(fields) > 2 or not name:
            raise bad_line(path, number, line, "expected `class/video.avi` or `class/video.avi number`")
        labels.append(label_of(name, f"{path}:{number}: class {name!r}"))
        paths.append(fields[0])
    return FileList([Path(video).stem for video in paths], labels, paths, class_names, str(root))


def _read_hmdb51(folder: Path, root: Path, class_names: Sequence[str] | None, split: str | None) -> FileList:
    """A file per class and split, lines `name.avi use` with use 1 for training, 2 for testing, 0 for neither."""
    match = re.fullmatch(r"(train|test)([123])", split or "")
    if not match:
        raise ValueError(f"split={split!r} of HMDB51 in {folder}; expected train1 to train3 or test1 to test3")
    use, suffix = {"train": "1", "test": "2"}[match[1]], f"_test_split{match[2]}.txt"
    files = _hmdb51_files(folder, suffix)
    class_names = class_names or class_names_from([file.name.removesuffix(suffix) for file in files], str(folder))
    label_of = label_finder(class_names)
    labels, paths = [], []
    for file in files:
        name = file.name.removesuffix(suffix)
        label = label_of(name, f"{file}: class {name!r}")
        for number, line in numbered_lines(file):
            fields = line.split()
            if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
                raise bad_line(file, number, line, "expected `video.avi` and 1 (training), 2 (testing) or 0 (neither)")
            if fields[1] == use:
                labels.append(label)
                paths.append(os.path.join(name, fields[0]))
    return FileList([Path(video).stem for video in paths], labels, paths, class_names, str(root))


def _hmdb51_files(folder: Path, suffix: str) -> list[Path]:
    return sorted(file for file in folder.glob(f"*{suffix}") if not is_passed_over(file.name))


def find_videos(places: Iterable[str | Path | Given]) -> FileList:
    """Videos without labels: each of `places` is a file, a member of a tar file, or a folder.

    A folder means all videos in it, or one video if the images in it are numbered frames.
    """
    return find_unlabeled(places, VIDEOS, lambda place: (split_member(place) or [place])[0])
