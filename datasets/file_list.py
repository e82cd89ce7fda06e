"""Lists of files with their labels: the common part of video and image lists."""

import itertools
import logging
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.class_table import class_name, label_finder
from datasets.class_table import read_class_names as read_class_names  # tables belong to lists
from datasets.find_files import FileKind, class_folders, find_files
from datasets.text_files import bad_line, existing_path, numbered_lines, shorten, whole_numbers
from settings import UserError

log = logging.getLogger(__name__)

UNLABELED = -1
TRAINING = {"train", "training"}
OTHER_SPLITS = {"val", "valid", "validation", "dev", "eval", "test", "testing"}
"""Folders that contain class folders, in lower case; a folder with both is a level above the intended one."""
MAX_CLASSES = 10_000_000  # without class names; a larger label is a mistake, and each class has a name in memory
NUM_LABELS_AT_HAND = 1 << 16  # different texts of labels, while a list is read


class FileError(UserError):
    """A file that cannot be read: `path` says which, `reason` why.

    A single argument is the whole message: that is how a DataLoader re-raises a worker's error.
    """

    def __init__(self, path, reason: str = ""):
        super().__init__(str(path), reason)
        self.path, self.reason = self.args

    def __str__(self):
        return f"{self.path}: {self.reason}" if self.reason else self.path


class FileItem(NamedTuple):
    """One row of a list: its position, the file's id, its label (-1: unknown; the first of several), its path."""

    index: int
    id: str
    label: int
    path: str


class Given(NamedTuple):
    """An input that is open or in memory: its name in messages, and a binary file, frames or an image."""

    name: str
    content: Any


class FileList(Sequence):
    """Files and their labels; `files[i]` is a `FileItem`.

    Text is packed into bytes and offsets: 240,000 files take about 25 MB in a few objects. Forked workers share them,
    because they hold no reference counts as a list of strings would, and spawned workers get them in milliseconds.

    Args:
        ids, labels, paths: one each per file; a label is -1 or at most len(class_names) - 1, paths are relative to
            `root`. A file with several classes has a tuple of labels.
        class_names: a name per class; None: unnamed classes, up to the largest label.
        root: folder of relative paths.
        contents: by row, what to read instead of a file; see `Given`.

    `labels` is an int64 array [N], read-only, with the first of several labels. `has_several`: whether any file has
    several.
    """

    def __init__(
        self,
        ids: Sequence[str],
        labels: Sequence[int | tuple[int, ...]],
        paths: Sequence[str],
        class_names: Sequence[str] | None = None,
        root: str = "",
        contents: Mapping[int, Any] | None = None,
    ):
        if not len(ids) == len(labels) == len(paths):
            raise ValueError(f"{len(ids)} ids, {len(labels)} labels and {len(paths)} paths; expected equal numbers")
        self.has_several = any(isinstance(label, tuple) for label in labels)
        sets = [label if isinstance(label, tuple) else (label,) for label in labels] if self.has_several else labels
        limit = MAX_CLASSES if class_names is None else len(class_names)
        try:
            self.labels = np.array([labels[0] for labels in sets] if self.has_several else sets, dtype=np.int64)
            # All labels, file by file [M], and where those of each file end [N]; M is N if no file has several.
            each = [label for labels in sets for label in labels] if self.has_several else self.labels
            self._all_labels = np.asarray(each, dtype=np.int64)
        except OverflowError:
            raise ValueError(f"a label has more than 64 bits; {accepted_labels(class_names)}") from None
        self._label_ends = np.cumsum([len(labels) for labels in sets]) if self.has_several else None
        beyond = np.flatnonzero((self._all_labels < UNLABELED) | (self._all_labels >= limit))
        if len(beyond):
            path = paths[int(self._rows()[beyond[0]])]
            raise ValueError(f"{path} has label {self._all_labels[beyond[0]]}; {accepted_labels(class_names)}")
        num_classes = self._all_labels.max(initial=UNLABELED) + 1 if class_names is None else len(class_names)
        self.labels.setflags(write=False)
        self.class_names = tuple(class_names or ())
        self.num_classes = int(num_classes)
        self.root = root
        self.contents = dict(contents or {})
        self._ids, self._paths = (
            texts if isinstance(texts, PackedTexts) else PackedTexts(texts) for texts in (ids, paths)
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> FileItem:
        position = range(len(self))[index]  # negative: from the end; IndexError out of range
        path = os.path.join(self.root, self._paths[position])
        return FileItem(position, self._ids[position], int(self.labels[position]), path)

    def __repr__(self) -> str:
        return f"FileList({len(self)} files, {self.num_classes} classes, root={self.root!r})"

    def labels_of(self, index: int) -> tuple[int, ...]:
        """All labels of a file; empty if unknown."""
        end = index + 1 if self._label_ends is None else int(self._label_ends[index])
        start = end - 1 if self._label_ends is None else int(self._label_ends[index - 1]) if index else 0
        return tuple(label for label in self._all_labels[start:end].tolist() if label != UNLABELED)

    def labeled_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Every known label, and the file that has it -> (rows [M] of the list, labels [M])."""
        known = self._all_labels != UNLABELED
        return self._rows()[known], self._all_labels[known]

    def targets(self, rows: Iterable[int], num_classes: int) -> np.ndarray:
        """Which classes the files `rows` [B] of the list have: bool [B, num_classes]; all False if unknown."""
        labels = [self.labels_of(int(row)) for row in rows]
        targets = np.zeros((len(labels), num_classes), dtype=bool)
        for target, of_file in zip(targets, labels, strict=True):
            target[list(of_file)] = True
        return targets

    def subset(self, rows: Iterable[int]) -> "FileList":
        """The files of some rows, in their order, with the same class names."""
        rows = [int(row) for row in rows]
        sets = [self.labels_of(row) if self.has_several else () for row in rows]
        labels = [labels if len(labels) > 1 else int(self.labels[row]) for row, labels in zip(rows, sets, strict=True)]
        ids, paths = ([texts[row] for row in rows] for texts in (self._ids, self._paths))
        return FileList(ids, labels, paths, self.class_names or None, self.root)

    def paths(self) -> Iterator[str]:
        """The path of each file, faster than from the items."""
        return (os.path.join(self.root, path) for path in self._paths)

    def identities(self) -> Iterator[str]:
        """Id, labels and file name of each file, which identify it wherever its folder is."""
        for index, (name, path) in enumerate(zip(self._ids, self._paths, strict=True)):
            yield f"{name}\t{self.labels_of(index)}\t{os.path.basename(path)}"

    def _rows(self) -> np.ndarray:
        """The row of each label [M]."""
        counts = 1 if self._label_ends is None else np.diff(self._label_ends, prepend=0)
        return np.repeat(np.arange(len(self)), counts)

    def missing(self) -> list[FileItem]:
        """The files that do not exist. Looks at every file, which takes a while on a network disk."""
        return [item for item in self if not os.path.isfile(item.path)]


class PackedTexts:
    """Strings, packed; more can be appended."""

    def __init__(self, texts: Iterable[str] = ()):
        self._bytes, self._ends = bytearray(), array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        try:
            encoded = text.encode("utf-8", "surrogateescape")  # as Python encodes file names
        except UnicodeEncodeError:
            raise ValueError(f"{text!r} holds a lone surrogate; no file can have this name") from None
        if "\0" in text:
            raise ValueError(f"{text!r} holds a NUL character; no file can have this name")
        self._bytes += encoded
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        start, end = self._ends[index : index + 2]
        return self._bytes[start:end].decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        for start, end in itertools.pairwise(self._ends):
            yield self._bytes[start:end].decode("utf-8", "surrogateescape")


def read_list(path: Path, root: Path, class_names: Sequence[str] | None) -> FileList:
    """The files of a list: `id label path` per line, separated by tabs or spaces, label -1 for unknown.

    Several labels are joined by commas: `id 3,17,92 path`.
    """
    ids, paths, labels = PackedTexts(), PackedTexts(), []

    @lru_cache(NUM_LABELS_AT_HAND)  # equal labels are read once, and are one object
    def read_labels(text: str) -> int | tuple[int, ...]:
        return _read_labels(text, class_names)

    for number, line in numbered_lines(path):
        fields = line.split(None, 2)
        if len(fields) != 3:
            raise bad_line(path, number, line, "expected `id label path`, separated by tabs or spaces")
        try:
            labels.append(read_labels(fields[1]))
        except ValueError as error:
            raise bad_line(path, number, line, str(error)) from None
        ids.append(fields[0])
        paths.append(fields[2].rstrip())
    return FileList(ids, labels, paths, class_names, str(root))


def _read_labels(text: str, class_names: Sequence[str] | None) -> int | tuple[int, ...]:
    """A label, or several joined by commas. Raises ValueError, which says what is expected."""
    limit = MAX_CLASSES if class_names is None else len(class_names)
    labels = whole_numbers(text.split(","))
    if labels is None:
        raise ValueError(f"expected `id label path`, but the label {text!r} is not a whole number")
    for label in labels:
        if not UNLABELED <= label < limit:
            raise ValueError(f"label {shorten(label)}: {accepted_labels(class_names)}")
    if len(labels) > 1 and (UNLABELED in labels or len(set(labels)) < len(labels)):
        raise ValueError(f"several labels must differ, and {UNLABELED} must be the only one")
    return labels[0] if len(labels) == 1 else tuple(labels)


def read_folder(folder: Path, root: Path, class_names: Sequence[str] | None, kind: FileKind) -> FileList:
    """The files of one subfolder per class, labels in sorted order of their names.

    Subfolders whose names differ in whitespace at the ends are one class.
    """
    subfolders = {name: class_name(name, f"{folder}: subfolder {name!r}") for name in class_folders(folder)}
    if not subfolders:
        raise ValueError(f"{folder} has no subfolders; expected one for each class, with its {kind.name}")
    names = {name.lower() for name in subfolders}
    if names <= TRAINING | OTHER_SPLITS or (names & TRAINING and names & OTHER_SPLITS):
        splits = [name for name in subfolders if name.lower() in TRAINING | OTHER_SPLITS]
        raise ValueError(
            f"{folder} holds {' and '.join(splits)}, not classes; name {folder / min(splits)}, for example"
        )
    class_names = class_names or sorted(set(subfolders.values()))
    label_of = label_finder(class_names)
    files: dict[str, list[str]] = {name: [] for name in subfolders}
    outside = []
    for path in find_files(folder, kind):
        subfolder, separator, _ = path.partition(os.sep)
        (files[subfolder] if separator else outside).append(path)
    if outside:
        log.warning("%s: %s skipped, because they are in no subfolder: %d, for example %r",
                    folder, kind.name, len(outside), outside[0])  # fmt: skip
    paths, labels = [], []
    for name, found in files.items():
        label = label_of(subfolders[name], f"{folder}: subfolder {name!r}")
        if not found:
            log.warning("%s: no %s in subfolder %s", folder, kind.name, name)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise ValueError(f"{folder}: no {kind.name} in any of its {len(files)} subfolders; expected {kind.expected}")
    if root != folder:
        paths = [os.path.relpath(folder / path, root) for path in paths]
    return FileList(paths, labels, paths, class_names, str(root))


def find_unlabeled(
    places: Iterable[str | Path | Given], kind: FileKind, file_of: Callable[[Path], str | Path] = Path
) -> FileList:
    """Files without labels: each of `places` is a file, or a folder, which means all files of the kind in it.

    `file_of`: the file that a place is in, if it is not a file itself.
    """
    paths: list[str] = []
    contents: dict[int, Any] = {}
    for place in places:
        if isinstance(place, Given):
            contents[len(paths)] = place.content
            paths.append(place.name)
            continue
        if not str(place):
            raise ValueError(f"an empty path was given; expected a file or folder of {kind.name}")
        place = Path(place).expanduser()
        existing_path(Path(file_of(place)), f"file or folder of {kind.name}")
        found = [str(place / path) for path in find_files(place, kind)] if place.is_dir() else [str(place)]
        if not found:
            raise ValueError(f"{place}: no {kind.name} in it; expected {kind.expected}")
        paths += found
    if not paths:
        raise ValueError(f"no {kind.name} given; expected at least one file or folder")
    return FileList(paths, [UNLABELED] * len(paths), paths, contents=contents)


def accepted_labels(class_names: Sequence[str] | None) -> str:
    if class_names is None:
        return f"expected 0 to {MAX_CLASSES - 1}, or {UNLABELED} for unknown"
    return f"expected 0 to {len(class_names) - 1} for {len(class_names)} classes, or {UNLABELED} for unknown"
