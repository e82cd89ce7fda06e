"""Lists of videos with their labels, in the forms people have on disk.

`read_videos` takes the list files of https://github.com/facebookresearch/GloRe (`id label path`), a folder with one
subfolder per class, Kinetics annotations (CSV), and the official splits of UCF101 and HMDB51. Unlike the authors' code,
it drops nothing and caches nothing: a missing file stays in the list, fails when it is read, and lowers the coverage
that an evaluation reports.
"""

import csv
import logging
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from datasets.file_list import (
    UNLABELED,
    FileKind,
    FileList,
    bad_line,
    existing_path,
    find_files,
    find_unlabeled,
    label_finder,
    numbered_lines,
    read_class_names,
    read_folder,
    read_list,
)

log = logging.getLogger(__name__)

VIDEOS = FileKind(
    "videos",
    (
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
    ),
)


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
            - a folder with one subfolder per class, labels in sorted order of their names;
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

    if source.is_dir() and any(source.glob("*_test_split?.txt")):
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
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        wanted = {"youtube_id", "time_start", "time_end"} | ({"split"} if split else set())
        if absent := sorted(wanted - set(columns)):
            raise ValueError(f"{path}:1: no column {', '.join(absent)}; expected Kinetics annotations, found {columns}")
        rows = [(reader.line_num, row) for row in reader if split is None or row["split"] == split]
    if not rows:
        of_split = f" of split {split!r}" if split else ""
        raise ValueError(f"{path} has no videos{of_split}; expected a line for each")
    if class_names is None:
        class_names = sorted({row["label"] for _, row in rows} if "label" in columns else ())
    label_of = label_finder(class_names)

    there = {Path(video).stem: video for video in find_files(root, VIDEOS)}
    ids, labels, paths, missing = [], [], [], []
    for number, row in rows:
        try:
            start, end = (int(float(row[column])) for column in ("time_start", "time_end"))
        except (TypeError, ValueError):
            raise bad_line(path, number, str(row), "expected time_start and time_end in seconds") from None
        name = f"{row['youtube_id']}_{start:06d}_{end:06d}"
        ids.append(name)
        label = row.get("label")  # a test set's annotations have none
        labels.append(UNLABELED if label is None else label_of(label, f"{path}:{number}: label {label!r}"))
        if name not in there:
            missing.append(name)
        paths.append(there.get(name, os.path.join(label or "", f"{name}.mp4")))
    if missing:
        log.warning(
            "%s: %d of %d videos are not under %s, for example %s; they stay in the list and count as unreadable",
            path, len(missing), len(rows), root, ", ".join(missing[:3]),
        )  # fmt: skip
    return FileList(ids, labels, paths, class_names, str(root))


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
    files = sorted(folder.glob(f"*{suffix}"))
    class_names = class_names or [file.name.removesuffix(suffix) for file in files]
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


def find_videos(places: Iterable[str | Path]) -> FileList:
    """Videos without labels: each of `places` is a file, or a folder, which means all videos in it."""
    return find_unlabeled(places, VIDEOS)
