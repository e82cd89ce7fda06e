"""Lists of videos with their labels, in the forms people have on disk.

`read_videos` takes the list files of https://github.com/facebookresearch/GloRe (`id label path`), a folder with one
sub-folder per class, Kinetics annotations (CSV), and the official splits of UCF101 and HMDB51. Different from the
authors' code: nothing is dropped and nothing is cached. A file that is not there stays in the list, is found unreadable
when it is read, and lowers the coverage that an evaluation reports.
"""

import csv
import difflib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
UNLABELED = -1


class VideoItem(NamedTuple):
    """One row of a list: position in it, its own name for the video, label (-1: unknown), and path of the file."""

    index: int
    id: str
    label: int
    path: str


class VideoList(Sequence):
    """Videos and their labels; `videos[i]` is a `VideoItem`.

    Text is packed into bytes and offsets: 240,000 videos take some 25 MB in three objects, which forked workers
    share (nothing in it counts references as a list of strings would) and spawned workers get in milliseconds.

    Args:
        ids, labels, paths: one each per video; a label is -1 or at most len(class_names) - 1, paths start from `root`.
        class_names: a name per class; none: classes without names, as many as the largest label tells.
        root: folder that relative paths start from.

    `labels` is an int64 array [N], read-only.
    """

    def __init__(
        self,
        ids: Sequence[str],
        labels: Sequence[int],
        paths: Sequence[str],
        class_names: Sequence[str] | None = None,
        root: str = "",
    ):
        self.labels = np.array(labels, dtype=np.int64)
        if not len(ids) == len(labels) == len(paths):
            raise ValueError(f"{len(ids)} ids, {len(labels)} labels and {len(paths)} paths; expected as many of each")
        num_classes = self.labels.max(initial=UNLABELED) + 1 if class_names is None else len(class_names)
        beyond = np.flatnonzero((self.labels < UNLABELED) | (self.labels >= num_classes))
        if len(beyond):
            first = beyond[0]
            raise ValueError(f"{paths[first]} has label {self.labels[first]}; {_accepted_labels(class_names)}")
        self.labels.setflags(write=False)
        self.class_names = tuple(class_names or ())
        self.num_classes = int(num_classes)
        self.root = root
        self._ids, self._paths = _Texts(ids), _Texts(paths)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> VideoItem:
        position = range(len(self))[index]  # counts from the end if negative, IndexError if beyond
        path = os.path.join(self.root, self._paths[position])
        return VideoItem(position, self._ids[position], int(self.labels[position]), path)

    def __repr__(self) -> str:
        return f"VideoList({len(self)} videos, {self.num_classes} classes, root={self.root!r})"

    def missing(self) -> list[VideoItem]:
        """The videos whose file is not there. Looks at every file, which takes a while on a network disk."""
        return [video for video in self if not os.path.isfile(video.path)]


class _Texts:
    """Immutable strings, packed."""

    def __init__(self, texts: Iterable[str]):
        encoded = [text.encode("utf-8", "surrogateescape") for text in texts]  # as Python takes file names of any bytes
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __getitem__(self, index: int) -> str:
        start, end = self._ends[index : index + 2].tolist()
        return self._bytes[start:end].decode("utf-8", "surrogateescape")


def read_videos(
    source: str | Path,
    root: str | Path | None = None,
    class_names: str | Path | Sequence[str] | None = None,
    split: str | None = None,
) -> VideoList:
    """The videos that `source` names.

    Args:
        source: one of
            - a list file: `id label path` per line, tabs or spaces between, label -1 for unknown;
            - a folder with one sub-folder per class, labels in sorted order of their names;
            - a Kinetics CSV (label, youtube_id, time_start, time_end, split), for files named
              `<youtube_id>_<start>_<end>`, times as six digits, anywhere under `root`;
            - UCF101's `trainlist01.txt`, `testlist01.txt`, ..., with its `classInd.txt` beside it;
            - the folder of HMDB51's `<class>_test_split1.txt`, ... files, with split="train1" or "test1", ...
        root: folder that the paths start from; none: the folder of `source`, or `source` if it is a folder.
        class_names: names in order of their labels, or a file of them, see `read_class_names`; none: from `source`.
        split: keeps this split of a CSV; picks the split of HMDB51.

    Raises:
        FileNotFoundError: no such source, root or class file; says what is near.
        ValueError: a line that cannot be understood, with file and line; a label beyond the classes; nothing in it.
    """
    source = _existing(Path(source).expanduser(), "list of videos")
    if root is not None:
        root = _existing(Path(root).expanduser(), "root folder of the videos")
    if isinstance(class_names, str | Path):
        class_names = read_class_names(class_names)

    if source.is_dir() and any(source.glob("*_test_split?.txt")):
        return _read_hmdb51(source, root or source, class_names, split)
    if source.suffix.lower() == ".csv":
        return _read_kinetics(source, root or source.parent, class_names, split)
    if split is not None:
        raise ValueError(f"split={split!r}, but {source} has none; only a Kinetics CSV and HMDB51's folder do")
    if source.is_dir():
        return _read_folder(source, root or source, class_names)
    if re.fullmatch(r"(train|test)list\d+\.txt", source.name):
        return _read_ucf101(source, root or source.parent, class_names)
    return _read_list(source, root or source.parent, class_names)


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Class names in order of their labels, from lines `index name` (counted from 0 or from 1) or one name per line."""
    path = _existing(Path(path).expanduser(), "file of class names")
    lines = [line.strip() for _, line in _lines(path)]
    fields = [line.split(None, 1) for line in lines]
    if not all(len(field) == 2 and field[0].isdecimal() for field in fields):
        return tuple(lines)
    names = {int(index): name for index, name in fields}
    first = min(names)
    if first > 1 or sorted(names) != list(range(first, first + len(fields))):
        raise ValueError(
            f"{path}: the {len(fields)} indices must be 0 to {len(fields) - 1}, or 1 to {len(fields)}, each once; "
            f"found {len(names)} different ones from {first} to {max(names)}"
        )
    return tuple(names[index] for index in sorted(names))


def find_videos(places: Iterable[str | Path]) -> VideoList:
    """Videos without labels: each of `places` is a file, or a folder that stands for all the videos in it."""
    paths: list[str] = []
    for place in places:
        place = _existing(Path(place).expanduser(), "video or folder of videos")
        found = [str(place / path) for path in _find_videos(place)] if place.is_dir() else [str(place)]
        if not found:
            raise ValueError(f"{place}: no videos in it; expected files that end in {' '.join(VIDEO_SUFFIXES)}")
        paths += found
    if not paths:
        raise ValueError("no videos named; expected at least one file or folder")
    return VideoList(paths, [UNLABELED] * len(paths), paths)


def _read_list(path: Path, root: Path, class_names: Sequence[str] | None) -> VideoList:
    ids, labels, paths = [], [], []
    for number, line in _lines(path):
        fields = line.split(None, 2)
        if len(fields) != 3:
            raise _bad_line(path, number, line, "expected `id label path`, tabs or spaces between")
        try:
            label = int(fields[1])
        except ValueError:
            expected = f"expected `id label path`, but the label {fields[1]!r} is not a whole number"
            raise _bad_line(path, number, line, expected) from None
        if label < UNLABELED or (class_names is not None and label >= len(class_names)):
            raise _bad_line(path, number, line, f"label {label}: {_accepted_labels(class_names)}")
        ids.append(fields[0])
        labels.append(label)
        paths.append(fields[2].rstrip())
    return VideoList(ids, labels, paths, class_names, str(root))


def _read_folder(folder: Path, root: Path, class_names: Sequence[str] | None) -> VideoList:
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise ValueError(f"{folder} has no sub-folders; expected one for each class, with its videos in it")
    label_of = _label_of(class_names or classes)
    paths, labels = [], []
    for name in classes:
        label = label_of(name, f"{folder}: sub-folder {name!r}")
        found = [os.path.join(name, path) for path in _find_videos(folder / name)]
        if not found:
            log.warning("%s: no videos in sub-folder %s", folder, name)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise ValueError(
            f"{folder}: no videos in any of its {len(classes)} sub-folders; expected files that end in "
            + " ".join(VIDEO_SUFFIXES)
        )
    if root != folder:
        paths = [os.path.relpath(folder / path, root) for path in paths]
    return VideoList(paths, labels, paths, class_names or classes, str(root))


def _read_kinetics(path: Path, root: Path, class_names: Sequence[str] | None, split: str | None) -> VideoList:
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
    label_of = _label_of(class_names)

    there = {Path(video).stem: video for video in _find_videos(root)}
    ids, labels, paths, missing = [], [], [], []
    for number, row in rows:
        try:
            start, end = (int(float(row[column])) for column in ("time_start", "time_end"))
        except (TypeError, ValueError):
            raise _bad_line(path, number, str(row), "expected time_start and time_end in seconds") from None
        name = f"{row['youtube_id']}_{start:06d}_{end:06d}"
        ids.append(name)
        label = row.get("label")  # a test set's annotations have none
        labels.append(UNLABELED if label is None else label_of(label, f"{path}:{number}: label {label!r}"))
        if name not in there:
            missing.append(name)
        paths.append(there.get(name, os.path.join(label or "", f"{name}.mp4")))
    if missing:
        log.warning(
            "%s: %d of %d videos are not under %s, such as %s; they stay in the list and count as unreadable",
            path, len(missing), len(rows), root, ", ".join(missing[:3]),
        )  # fmt: skip
    return VideoList(ids, labels, paths, class_names, str(root))


def _read_ucf101(path: Path, root: Path, class_names: Sequence[str] | None) -> VideoList:
    """Lines `Class/name.avi`, in training lists followed by the class's number in classInd.txt, which counts from 1."""
    class_names = class_names or read_class_names(path.parent / "classInd.txt")
    label_of = _label_of(class_names)
    labels, paths = [], []
    for number, line in _lines(path):
        fields = line.split()
        name = os.path.dirname(fields[0])
        if len(fields) > 2 or not name:
            raise _bad_line(path, number, line, "expected `class/video.avi` or `class/video.avi number`")
        labels.append(label_of(name, f"{path}:{number}: class {name!r}"))
        paths.append(fields[0])
    return VideoList([Path(video).stem for video in paths], labels, paths, class_names, str(root))


def _read_hmdb51(folder: Path, root: Path, class_names: Sequence[str] | None, split: str | None) -> VideoList:
    """A file per class and split, lines `name.avi use` with use 1 for training, 2 for testing and 0 for neither."""
    match = re.fullmatch(r"(train|test)([123])", split or "")
    if not match:
        raise ValueError(f"split={split!r} of HMDB51 in {folder}; expected train1 to train3 or test1 to test3")
    use, suffix = {"train": "1", "test": "2"}[match[1]], f"_test_split{match[2]}.txt"
    files = sorted(folder.glob(f"*{suffix}"))
    class_names = class_names or [file.name.removesuffix(suffix) for file in files]
    label_of = _label_of(class_names)
    labels, paths = [], []
    for file in files:
        name = file.name.removesuffix(suffix)
        label = label_of(name, f"{file}: class {name!r}")
        for number, line in _lines(file):
            fields = line.split()
            if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
                raise _bad_line(file, number, line, "expected `video.avi` and 1 (training), 2 (testing) or 0 (neither)")
            if fields[1] == use:
                labels.append(label)
                paths.append(os.path.join(name, fields[0]))
    return VideoList([Path(video).stem for video in paths], labels, paths, class_names, str(root))


def _find_videos(folder: Path) -> list[str]:
    """Paths from `folder` of the videos anywhere in it, sorted; hidden files and folders are passed over."""
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.relpath(os.path.join(parent, name), folder)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES
        ]
    return sorted(found)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that hold something, with their numbers from 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # a byte order mark, as some editors write, is no part of the text
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 from byte {error.start} on; expected a list") from None
    if not text.strip():
        raise ValueError(f"{path} is empty; expected a line for each entry")
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _label_of(class_names: Sequence[str]) -> Callable[[str, str], int]:
    """A function (name, where) -> label that raises ValueError for a name that is none of `class_names`."""
    labels = {name: label for label, name in enumerate(class_names)}

    def label_of(name: str, where: str) -> int:
        if name not in labels:
            near = difflib.get_close_matches(name, labels, n=1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise ValueError(f"{where} is none of the {len(labels)} class names{hint}")
        return labels[name]

    return label_of


def _accepted_labels(class_names: Sequence[str] | None) -> str:
    if class_names is None:
        return f"expected 0 or more, or {UNLABELED} for unknown"
    return f"expected 0 to {len(class_names) - 1} for {len(class_names)} classes, or {UNLABELED} for unknown"


def _bad_line(path: Path, number: int, line: str, expected: str) -> ValueError:
    return ValueError(f"{path}:{number}: {expected}; found {line.strip()!r}")


def _existing(path: Path, what: str) -> Path:
    """`path` if it exists; otherwise FileNotFoundError tells how far it does, and what has nearly this name there."""
    if path.exists():
        return path
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    lost = path.absolute().relative_to(parent).parts[0]
    near = difflib.get_close_matches(lost, os.listdir(parent), n=1, cutoff=0.5)
    hint = f"; did you mean {parent / near[0]}?" if near else ""
    raise FileNotFoundError(f"no {what} at {path}: {parent} has no {lost!r}{hint}")
