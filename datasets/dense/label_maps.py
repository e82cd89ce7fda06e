"""Images with a label map each, in the common layouts: lists, parallel folders, ADE20K, Cityscapes.

    a list file       image <tab> label map, per line; relative to the list's folder or `root`
    parallel folders  IMAGES/a/b.jpg and LABELS/a/b.png: the same names but for their suffixes
    ADE20K            images/training, annotations/training, and the same for validation; objectInfo150.txt
    Cityscapes        leftImg8bit/train/CITY/*_leftImg8bit.png, gtFine/train/CITY/*_gtFine_labelIds.png (or
                      _labelTrainIds.png, which is preferred)

See `label_values` for the meaning of the files' values.
"""

import csv
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.class_table import class_names_from
from datasets.dense.label_values import (
    ADE20K_CLASSES,
    CITYSCAPES,
    LabelValues,
    ade20k_values,
    cityscapes_values,
    own_values,
    read_label_file,
)
from datasets.file_list import PackedTexts
from datasets.find_files import FileKind, find_files
from datasets.image_file import SUFFIXES, ImageError
from datasets.text_files import bad_line, existing_path, numbered_lines
from settings import did_you_mean

IMAGES, LABELS = FileKind("images", SUFFIXES), FileKind("label maps", (".png", ".bmp", ".gif", ".tif", ".tiff"))
ADE20K_SPLITS = {"train": "training", "val": "validation", "training": "training", "validation": "validation"}
ADE20K_NAMES = "objectInfo150.txt"
CITYSCAPES_IMAGE = "_leftImg8bit.png"
CITYSCAPES_LABELS = ("_gtFine_labelTrainIds.png", "_gtFine_labelIds.png")


class LabelMapItem(NamedTuple):
    """One image: its row, its path, and that of its label map."""

    index: int
    path: str
    label_path: str


class LabelMapFiles(Sequence):
    """Images and their label maps; `files[i]` is a `LabelMapItem`.

    Args:
        paths, label_paths: one each per image, relative to `root`.
        values: what the values of the label maps mean.
        class_names: in order of labels.
        root: folder of relative paths.
        source: where the files were listed, for messages.
    """

    def __init__(
        self,
        paths: Sequence[str],
        label_paths: Sequence[str],
        values: LabelValues,
        class_names: Sequence[str],
        root: str,
        source: str,
    ):
        if not paths:
            raise ValueError(f"{source} has no images with label maps; training and validation need at least one")
        self.values, self.class_names, self.root, self.source = values, tuple(class_names), root, source
        self._paths, self._label_paths, self._length = PackedTexts(paths), PackedTexts(label_paths), len(paths)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> LabelMapItem:
        position = range(len(self))[index]  # negative: from the end; IndexError out of range
        # By name alone, because `root` may be a link, and "link/.." is not the folder that the link is in.
        paths = (
            os.path.normpath(os.path.join(self.root, table[position])) for table in (self._paths, self._label_paths)
        )
        return LabelMapItem(position, *paths)

    def __repr__(self) -> str:
        return f"LabelMapFiles({len(self)} images, {self.num_classes} classes, {self.source!r}, root={self.root!r})"

    def read_labels(self, item: LabelMapItem, size: tuple[int, int]) -> np.ndarray:
        """The labels of an image of `size` (H, W): uint8 [H, W], 255 where ignored.

        Raises ImageError for a file that is missing or damaged, of another size, or has a value out of range.
        """
        stored = read_label_file(item.label_path)
        if stored.shape != tuple(size):
            reason = f"is {stored.shape[1]} x {stored.shape[0]}, but its image {item.path} is {size[1]} x {size[0]}"
            raise ImageError(item.label_path, reason)
        return self.values(stored, item.label_path)

    def subset(self, rows: Iterable[int]) -> "LabelMapFiles":
        """The images of some rows, in their order, with the same classes."""
        rows = [int(row) for row in rows]
        paths, label_paths = ([texts[row] for row in rows] for texts in (self._paths, self._label_paths))
        return LabelMapFiles(paths, label_paths, self.values, self.class_names, self.root, self.source)

    def identities(self) -> Iterator[str]:
        """The file names of each image, which identify it wherever its folder is."""
        for path, label_path in zip(self._paths, self._label_paths, strict=True):
            yield f"{os.path.basename(path)}\t{os.path.basename(label_path)}"

    def missing(self) -> list[str]:
        """The paths that do not exist. Looks at every file, which takes a while on a network disk."""
        return [path for item in self for path in item[1:] if not os.path.isfile(path)]


def read_label_maps(
    source: str | Path,
    labels: str | Path | None = None,
    root: str | Path | None = None,
    split: str | None = None,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    ignored_label: int | None = None,
    labels_name: str = "labels",
) -> LabelMapFiles:
    """The images and label maps that `source` names.

    Args:
        source: a list file; a folder of images, with `labels` that of their label maps; or the folder of ADE20K or of
            Cityscapes, with `split`.
        labels: folder of the label maps, if `source` is a folder of images.
        root: folder that the paths of a list are relative to; None: the folder of the list.
        split: `train` or `val`, for ADE20K and Cityscapes.
        class_names: names in order of their labels; required for own sets unless `num_classes` is given.
        num_classes: for own sets whose classes have no names.
        ignored_label: for own sets, a value of the label maps that is ignored, besides 255.
        labels_name: what messages call `labels`.

    Raises:
        FileNotFoundError: no such file or folder; suggests a similar name.
        ValueError: a malformed line, an image without a label map or the reverse, or no images.
    """
    source = existing_path(Path(source).expanduser(), "list or folder of images")
    layout = _known_layout(source)
    if layout:
        if split is None:
            raise ValueError(f"{source} has several splits; set split to train or val")
        if ignored_label is not None or labels is not None:
            raise ValueError(f"{source} is {layout}, which defines its own labels; leave out labels and ignored_label")
        files = _read_ade20k(source, split) if layout == "ADE20K" else _read_cityscapes(source, split)
        if num_classes not in (None, files.num_classes):
            raise ValueError(f"{source} is {layout} with {files.num_classes} classes, but num_classes is {num_classes}")
        if class_names is not None and len(class_names) != files.num_classes:
            raise ValueError(f"{source} is {layout} with {files.num_classes} classes, but {len(class_names)} names")
        return files
    if class_names is None and num_classes is None:
        raise ValueError(f"{source}: how many classes are there? Set class_names, or num_classes if they have no names")
    names = class_names_from(class_names or [f"class {label}" for label in range(num_classes)], "class_names")
    if num_classes is not None and num_classes != len(names):
        raise ValueError(f"num_classes is {num_classes}, but there are {len(names)} class names")
    values = own_values(len(names), ignored_label)
    if source.is_file() and labels is not None:
        raise ValueError(f"{source} is a list, which names the label maps; leave out the folder {labels}")
    if source.is_file():
        paths, label_paths = _read_pairs(source)
        root = source.parent if root is None else existing_path(Path(root).expanduser(), "root folder of the images")
    elif labels is None:
        raise ValueError(f"{source} is a folder of images; set {labels_name} to the folder of their label maps")
    else:
        labels, root = existing_path(Path(labels).expanduser(), "folder of label maps"), source
        found, found_labels = find_files(source, IMAGES), find_files(labels, LABELS)
        paths, label_paths = _match(source, found, labels, found_labels)
    return LabelMapFiles(paths, label_paths, values, names, str(root), str(source))


def _known_layout(source: Path) -> str:
    if (source / "leftImg8bit").is_dir():
        return "Cityscapes"
    return "ADE20K" if (source / "annotations").is_dir() and (source / "images").is_dir() else ""


def _read_pairs(path: Path) -> tuple[list[str], list[str]]:
    """Images and label maps of a list: two columns, separated by tabs, or by blanks where a line has no tab.

    A leading "/" is dropped if no such file exists, as in SegNet's lists of CamVid (`/SegNet/CamVid/train/...`).
    """
    paths, label_paths = [], []
    for number, line in numbered_lines(path):
        fields = [field.strip() for field in (line.split("\t") if "\t" in line else line.split())]
        if len(fields) != 2 or not all(fields):
            raise bad_line(path, number, line, "expected `image label_map`, separated by a tab or a blank")
        paths.append(_below_root(fields[0]))
        label_paths.append(_below_root(fields[1]))
    return paths, label_paths


def _below_root(path: str) -> str:
    return path.lstrip("/") if path.startswith("/") and not os.path.exists(path) else path


def _match(images: Path, paths: list[str], labels: Path, label_paths: list[str]) -> tuple[list[str], list[str]]:
    """Pairs files of the same name but for their suffixes -> paths, relative to `images`, and those of label maps.

    Where that leaves files over, accents may be stored in two ways (NFC and NFD), as on macOS.
    """
    by_name, names = _by_name(labels, label_paths), _by_name(images, paths)
    if names.keys() != by_name.keys():
        by_name, names = _by_name(labels, label_paths, is_composed=True), _by_name(images, paths, is_composed=True)
    for name, path in names.items():
        if name not in by_name:
            alone = len(names.keys() - by_name.keys())
            raise ValueError(f"{images / path} has no label map {labels / name}.png{did_you_mean(name, by_name, 0.8)}; "
                             f"{alone} of {len(names)} images have none")  # fmt: skip
    for name, path in by_name.items():
        if name not in names:
            alone = len(by_name.keys() - names.keys())
            raise ValueError(f"{labels / path} has no image {name} in {images}; {alone} of {len(by_name)} label maps "
                             "have none")  # fmt: skip
    found = sorted(names)
    place = os.path.relpath(labels, images)
    return [names[name] for name in found], [os.path.join(place, by_name[name]) for name in found]


def _by_name(folder: Path, paths: list[str], is_composed: bool = False) -> dict[str, str]:
    """Files by their path without suffix. Raises ValueError if two differ only in the suffix.

    `is_composed`: accents are made one character with their letter, as some systems and archives store them.
    """
    names: dict[str, str] = {}
    for path in paths:
        name = os.path.splitext(path)[0]
        if is_composed:
            name = unicodedata.normalize("NFC", name)
        if names.setdefault(name, path) != path:
            raise ValueError(f"{folder} has both {names[name]} and {path}; remove one of them")
    return names


def _read_ade20k(root: Path, split: str) -> LabelMapFiles:
    if split not in ADE20K_SPLITS:
        raise ValueError(f"ADE20K has no split {split!r}; expected train or val")
    folders = [root / kind / ADE20K_SPLITS[split] for kind in ("images", "annotations")]
    images, labels = (existing_path(folder, "folder of ADE20K") for folder in folders)
    paths, label_paths = _match(images, find_files(images, IMAGES), labels, find_files(labels, LABELS))
    table = existing_path(root / ADE20K_NAMES, "table of ADE20K's classes")
    return LabelMapFiles(paths, label_paths, ade20k_values(), _ade20k_names(table), str(images), f"{root} ({split})")


def _ade20k_names(table: Path) -> tuple[str, ...]:
    """The first name of each class of `objectInfo150.txt`: Idx, Ratio, Train, Val, Stuff, Name; separated by tabs."""
    rows = list(csv.reader((line for _, line in numbered_lines(table)), delimiter="\t"))[1:]
    names = [row[-1].split(",")[0].strip() for row in rows]
    if len(names) != ADE20K_CLASSES or [row[0].strip() for row in rows] != [str(n) for n in range(1, len(rows) + 1)]:
        raise ValueError(f"{table}: {len(names)} classes; expected ADE20K's table, a header and lines 1 to 150")
    return tuple(names)


def _read_cityscapes(root: Path, split: str) -> LabelMapFiles:
    images, labels = root / "leftImg8bit" / split, root / "gtFine" / split
    existing_path(images, "split of Cityscapes"), existing_path(labels, "split of Cityscapes")
    paths = [path for path in find_files(images, IMAGES) if path.endswith(CITYSCAPES_IMAGE)]
    stems = [path.removesuffix(CITYSCAPES_IMAGE) for path in paths]
    ready = all((labels / f"{stem}{CITYSCAPES_LABELS[0]}").is_file() for stem in stems)
    suffix = CITYSCAPES_LABELS[0 if ready else 1]
    for stem in stems:
        if not (labels / f"{stem}{suffix}").is_file():
            raise ValueError(f"{images / stem}{CITYSCAPES_IMAGE} has no label map {labels / stem}{suffix}")
    place = os.path.relpath(labels, images)
    values = own_values(len(CITYSCAPES)) if ready else cityscapes_values()
    label_paths = [os.path.join(place, f"{stem}{suffix}") for stem in stems]
    return LabelMapFiles(paths, label_paths, values, tuple(CITYSCAPES.values()), str(images), f"{root} ({split})")
