"""Reads the annotations of well-known video data sets, finds the videos on disk, and writes one list file.

A list file has a line `id label path` for each video, separated by tabs; a video with several classes (Charades)
has their labels joined by commas: `YSKX3 3,17,92 YSKX3.mp4`. A mapping table has a line `label name` for each class.
Videos may be in other folders or containers than the annotations say, as after a conversion.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize
from urllib.parse import quote

from datasets.class_table import class_names_from, class_table, label_finder
from datasets.class_table import read_class_names as read_table
from datasets.file_list import UNLABELED
from datasets.find_files import find_files, is_passed_over
from datasets.text_files import bad_line, csv_rows, existing_path, numbered_lines, read_csv, read_json, whole_number
from datasets.video.lists import VIDEOS, read_videos

log = logging.getLogger(__name__)


class LabeledVideo(NamedTuple):
    """A video as described by annotations."""

    id: str
    labels: tuple[int, ...]  # empty: unknown
    path: str  # relative to the root; the file there may have another suffix


class Annotations(NamedTuple):
    """The videos and classes that the annotations of a data set name."""

    videos: list[LabeledVideo]
    class_names: tuple[str, ...]
    sources: Mapping[str, str] = {}
    """Id of a video -> the recording that it was cut from, if the data set provides it."""


class LayoutRequest(NamedTuple):
    """Which annotations to read, and how."""

    root: Path
    annotations: Path | None
    split: str | None
    class_names: tuple[str, ...] | None


def read_layout(
    layout: str,
    root: str | Path,
    annotations: str | Path | None = None,
    split: str | None = None,
    class_names: str | Path | None = None,
) -> tuple[Annotations, list[LabeledVideo]]:
    """The videos of a data set, with their actual paths relative to `root` -> (annotations, the missing videos).

    Args:
        layout: a key of `LAYOUTS`.
        root: folder with the videos, at any depth.
        annotations: the layout's file or folder; None for plain folders.
        split: the split to keep, if one file has several.
        class_names: mapping table that numbers the classes; None: the data set's own order.

    A missing video keeps its path from the annotations. Raises ValueError and FileNotFoundError as `read_videos` does.
    """
    root = existing_path(Path(root).expanduser(), "root folder of the videos")
    read_annotations, needs = LAYOUTS[layout]
    if (annotations is None) != (needs is None):
        raise ValueError(f"layout {layout} takes {needs or 'no annotations: folders are the classes'}")
    if annotations is not None:
        annotations = existing_path(Path(annotations).expanduser(), f"annotations of {layout}")
    names = None if class_names is None else read_table(class_names)
    found = read_annotations(LayoutRequest(root, annotations, split, names))
    finder = _VideoFinder(root)
    videos, missing = [], []
    for video in found.videos:
        path = finder.find(video.path)
        videos.append(video._replace(path=path or video.path))
        if path is None:
            missing.append(video)
    return found._replace(videos=videos), missing


class _VideoFinder:
    """Finds videos below a folder by their expected path or name, whatever their suffix and Unicode form.

    Disks differ in the form: é may be one character (NFC), or e and an accent (NFD).
    """

    def __init__(self, root: Path):
        self._paths = set(find_files(root, VIDEOS))
        self._by_path: dict[str, str | None] = {}  # without suffix; None: several have this name
        self._by_name: dict[str, str | None] = {}  # without suffix and folder
        for path in sorted(self._paths):
            key, suffix = os.path.splitext(path)
            key = normalize("NFC", key if suffix.lower() in VIDEOS.suffixes else path)  # folders of frames have none
            for name, table in ((key, self._by_path), (os.path.basename(key), self._by_name)):
                table[name] = None if name in table else path

    def find(self, path: str) -> str | None:
        path = os.path.normpath(path)
        if path in self._paths:
            return path
        key = normalize("NFC", os.path.splitext(path)[0])
        return self._by_path.get(key) or self._by_name.get(os.path.basename(key))


# Layouts -----------------------------------------------------------------------------------------------------------


def _read_by_lists(request: LayoutRequest) -> Annotations:
    """The layouts that `read_videos` knows: Kinetics, UCF101, HMDB51, folders."""
    files = read_videos(request.annotations or request.root, request.root, request.class_names, request.split)
    videos = [
        LabeledVideo(item.id, files.labels_of(item.index), os.path.relpath(item.path, files.root)) for item in files
    ]
    return Annotations(videos, files.class_names)


def _read_kinetics(request: LayoutRequest, num_classes: int) -> Annotations:
    if request.annotations.suffix.lower() == ".json":
        raise ValueError(f"{request.annotations} is JSON; take the CSV of the same split, such as train.csv")
    found = _read_by_lists(request)
    if found.class_names and request.class_names is None and len(found.class_names) != num_classes:
        log.warning(
            "%s has %d classes, not %d: give the mapping table of the training list, or the labels will differ",
            request.annotations, len(found.class_names), num_classes,
        )  # fmt: skip
    return found


def _read_something(request: LayoutRequest) -> Annotations:
    """`train.json`, a list of {"id", "template", ...}, with `labels.json`, {class: number}, beside it.

    A test set has only ids. Templates put placeholders in brackets, class names do not.
    """
    path = request.annotations
    class_names = request.class_names
    if class_names is None:
        class_names = read_table(_find_beside(path, "*labels.json", "labels.json, the classes of Something-Something"))
    label_of = label_finder(class_names)
    videos = []
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a list")
    for number, entry in enumerate(content, 1):
        if not isinstance(entry, dict) or type(entry.get("id")) not in (str, int):
            raise ValueError(f"{path}: entry {number} has no id; found {str(entry)[:100]}")
        labels: tuple[int, ...] = ()
        if "template" in entry:
            name = str(entry["template"]).replace("[", "").replace("]", "")
            labels = (label_of(name, f"{path}: entry {number}: class {name!r}"),)
        videos.append(LabeledVideo(str(entry["id"]), labels, f"{entry['id']}.webm"))
    return Annotations(videos, class_names)


def _read_charades(request: LayoutRequest) -> Annotations:
    """A CSV with columns id and actions, such as `c092 11.90 21.20;c147 0.00 12.60`.

    `Charades_v1_classes.txt`, lines `c000 name`, is beside it. The times of the actions are dropped.
    """
    path = request.annotations
    class_names = request.class_names
    if class_names is None:
        table = _find_beside(path, "*classes.txt", "Charades_v1_classes.txt")
        lines = [(number, line, *line.split(None, 1)) for number, line in numbered_lines(table)]
        for position, (number, line, *fields) in enumerate(lines):
            if len(fields) != 2 or fields[0] != f"c{position:03d}":
                raise bad_line(table, number, line, f"expected `c{position:03d} name`")
        class_names = class_names_from([fields[1] for _, _, *fields in lines], str(table))
    videos = []
    for number, row in read_csv(path, ("id", "actions"), "Charades annotations"):
        if not row["id"]:
            raise bad_line(path, number, ",".join(row.values()), "expected an id")
        labels = set()
        for action in filter(None, map(str.strip, row["actions"].split(";"))):
            code = action.split()[0]
            label = whole_number(code[1:]) if code[0] == "c" else None
            if label is None or not 0 <= label < len(class_names):
                raise bad_line(path, number, action, f"expected actions c000 to c{len(class_names) - 1:03d}")
            labels.add(label)
        videos.append(LabeledVideo(row["id"], tuple(sorted(labels)), f"{row['id']}.mp4"))
    return Annotations(videos, class_names)


def _read_moments(request: LayoutRequest) -> Annotations:
    """`trainingSet.csv`, lines `path,class,...` without a header.

    `moments_categories.txt`, lines `class,number`, is beside it.
    """
    path = request.annotations
    class_names = request.class_names
    if class_names is None:
        class_names = read_table(_find_beside(path, "moments_categories.txt", "moments_categories.txt"))
    label_of = label_finder(class_names)
    videos = []
    for number, row in csv_rows(path):
        if len(row) < 2:
            raise bad_line(path, number, ",".join(row), "expected `path,class`")
        label = label_of(row[1], f"{path}:{number}: class {row[1]!r}")
        videos.append(LabeledVideo(os.path.splitext(row[0])[0], (label,), row[0]))
    return Annotations(videos, class_names)


def _read_fights(request: LayoutRequest) -> Annotations:
    """Class folders, and a file with the URL of each recording above its clips: `fi001: 0.13.50 - 0.15.60`.

    `nofi062 - nofi076 : CamNet Dataset` names the recording of several. Recordings that share a clip count as one.
    """
    found = _read_by_lists(request._replace(annotations=None))
    videos = [video._replace(id=Path(video.path).stem) for video in found.videos]
    known = {video.id for video in videos}
    sources: dict[str, str] = {}
    same: dict[str, str] = {}  # a recording -> the one that it shares a clip with
    for clip, source in _clips_of_sources(request.annotations):
        if clip in known:
            first = sources.setdefault(clip, same.get(source, source))
            same.setdefault(source, first)
    if not sources:
        raise ValueError(f"{request.annotations} names none of the {len(videos)} videos, for example {videos[0].id}")
    return Annotations(videos, found.class_names, {clip: same.get(name, name) for clip, name in sources.items()})


def _clips_of_sources(path: Path) -> Iterator[tuple[str, str]]:
    """(clip, its recording) of the fights' videos.txt."""
    source = None
    for number, line in numbered_lines(path):
        line = line.strip()
        if line.startswith("http"):
            source = line
        elif match := re.fullmatch(r"(\D+)(\d+) - \1(\d+)\s*:\s*(.+)", line):
            prefix, first, last, name = match.groups()
            yield from ((f"{prefix}{clip:0{len(first)}}", name) for clip in range(int(first), int(last) + 1))
        elif source is None or ":" not in line:
            raise bad_line(path, number, line, "expected the URL of a recording, or `clip: start - end` below one")
        else:
            yield line.partition(":")[0].strip(), source


def _find_beside(path: Path, pattern: str, what: str) -> Path:
    found = sorted(file for file in path.parent.glob(pattern) if not is_passed_over(file.name))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{path.parent} has {len(found)} files {pattern}; expected {what} there, or give a mapping table"
        )
    return found[0]


# name -> (function that reads the annotations, which annotations it needs)
LAYOUTS: dict[str, tuple[Callable[[LayoutRequest], Annotations], str | None]] = {
    "folder": (_read_by_lists, None),
    **{
        f"kinetics{n}": (partial(_read_kinetics, num_classes=n), "Kinetics annotations, a CSV such as train.csv")
        for n in (400, 600, 700)
    },
    "ucf101": (_read_by_lists, "trainlist01.txt or another split of UCF101"),
    "hmdb51": (_read_by_lists, "the folder of HMDB51's files *_test_split1.txt, and a split such as train1"),
    "something_v2": (_read_something, "train.json or another file of Something-Something"),
    "charades": (_read_charades, "Charades_v1_train.csv or Charades_v1_test.csv"),
    "fights": (_read_fights, "videos.txt of the surveillance fights, the recordings of its clips"),
    "moments": (_read_moments, "trainingSet.csv or validationSet.csv of Moments in Time"),
}


# Writing -----------------------------------------------------------------------------------------------------------


UNFIT = re.compile(r"[\0\n\r\ud800-\udfff]|^\s|\s\Z")
"""In a path that a line of a list cannot hold."""


def write_list(path: Path, videos: Sequence[LabeledVideo]) -> list[str]:
    """Writes a list file -> the id of each video in it; see `list_ids`.

    Raises ValueError if there are paths that a list cannot hold.
    """
    unfit = [video.path for video in videos if UNFIT.search(video.path)]
    if unfit:
        raise ValueError(
            f"a list cannot hold {len(unfit)} of the {len(videos)} paths, such as {', '.join(map(repr, unfit[:3]))}: "
            "rename these files, without line breaks, whitespace at the ends or characters that are not UTF-8"
        )
    ids = list_ids(videos)
    lines = []
    for name, video in zip(ids, videos, strict=True):
        labels = ",".join(map(str, video.labels)) or str(UNLABELED)
        lines.append(f"{name}\t{labels}\t{video.path}\n")
    _write(path, "".join(lines))
    return ids


def list_ids(videos: Sequence[LabeledVideo]) -> list[str]:
    """The id of each video in a list: its own, with `_` for whitespace, or its path if other files have the same id.

    Whitespace in these paths is percent-encoded, so that they differ as the paths do. A file that is listed twice may
    have one id.
    """
    ids = ["_".join(video.id.split()) for video in videos]
    paths = [re.sub(r"[\s%]", lambda match: quote(match[0]), video.path) for video in videos]
    while True:
        first: dict[str, str] = {}  # id -> the first path that has it
        shared = {""} | {name for name, path in zip(ids, paths, strict=True) if first.setdefault(name, path) != path}
        rows = [row for row, name in enumerate(ids) if name in shared and name != paths[row]]
        if not rows:
            return ids
        log.warning(
            "%d of %d videos share their id with another or have none, so their paths are their ids, for example %s "
            "instead of %r", len(rows), len(ids), paths[rows[0]], ids[rows[0]],
        )  # fmt: skip
        for row in rows:
            ids[row] = paths[row]


def write_sources(path: Path, sources: Mapping[str, str]) -> None:
    """Writes a table of the recordings of videos, lines `id recording`, for data.fold_groups."""
    _write(path, "".join(f"{clip}\t{source}\n" for clip, source in sources.items()))


def write_table(path: Path, class_names: Sequence[str]) -> None:
    """Writes a mapping table. Raises ValueError if one exists that numbers the classes differently."""
    if path.exists() and read_table(path) != tuple(class_names):
        raise ValueError(f"{path} exists with other classes or another order; number by it, or choose another table")
    _write(path, class_table(class_names))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_name(f".{path.name}.partial")
    partial_file.write_text(text, encoding="utf-8")
    os.replace(partial_file, path)
