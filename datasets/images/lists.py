"""Lists of images with their labels: ImageNet's layouts, and our own list files."""

import codecs
from collections.abc import Iterable, Sequence
from pathlib import Path

from datasets.class_table import class_names_from, label_finder
from datasets.file_list import (
    MAX_CLASSES,
    UNLABELED,
    FileList,
    Given,
    accepted_labels,
    find_unlabeled,
    read_folder,
    read_list,
)
from datasets.find_files import FileKind, class_folders
from datasets.image_file import SUFFIXES
from datasets.text_files import bad_line, existing_path, read_csv, read_json, shorten

IMAGES = FileKind("images", SUFFIXES)
KAGGLE_LABELS = "LOC_val_solution.csv"


def read_images(
    source: str | Path, root: str | Path | None = None, class_names: Sequence[str] | None = None
) -> FileList:
    """The images that `source` names.

    Args:
        source: one of
            - a folder with one subfolder per class (`ILSVRC/Data/CLS-LOC/train`), labels in sorted order of their
              names, which are ImageNet's own labels;
            - ImageNet's validation images as released, all in one folder, with Kaggle's `LOC_val_solution.csv`, which
              has their classes, in it or in a folder above; `class_names` or the `train` folder beside it number them;
            - ImageNet-22k's list (`ILSVRC2011fall_whole_map_train.txt`): JSON, [[path, label, ...], ...];
            - a list file: `id label path` per line, separated by tabs or spaces, label -1 for unknown.
        root: folder that paths are relative to; None: the folder of `source`, or `source` if it is a folder.
        class_names: names in order of their labels; None: from `source`.

    Raises:
        FileNotFoundError: no such source or root; suggests a similar name.
        ValueError: a malformed line (with file and line number), a label out of range, or an empty list.
    """
    source = existing_path(Path(source).expanduser(), "list of images")
    root = None if root is None else existing_path(Path(root).expanduser(), "root folder of the images")
    if class_names is not None:
        class_names = class_names_from(class_names, "class_names")
    if source.is_dir():
        if not class_folders(source):
            return _read_flat(source, root or source, class_names)
        return read_folder(source, root or source, class_names, IMAGES)
    with open(source, "rb") as file:
        is_json = file.read(1000).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    if is_json:
        return _read_22k(source, root or source.parent, class_names)
    return read_list(source, root or source.parent, class_names)


def find_images(places: Iterable[str | Path | Given]) -> FileList:
    """Images without labels: each of `places` is a file, or a folder, which means all images in it."""
    return find_unlabeled(places, IMAGES)


def _read_flat(folder: Path, root: Path, class_names: Sequence[str] | None) -> FileList:
    """ImageNet's validation images in one folder, with the classes from Kaggle's table: lines `name,class box ...`."""
    tables = (parent / KAGGLE_LABELS for parent in (folder, *folder.absolute().parents))
    table = next((path for path in tables if path.is_file()), None)
    if table is None:
        raise ValueError(
            f"{folder} has no subfolders, one for each class. For ImageNet's validation images as released, put "
            f"Kaggle's {KAGGLE_LABELS} into it or above; or move the images into folders named after their classes"
        )
    train = folder.with_name("train")
    if class_names is None:
        if not train.is_dir():
            raise ValueError(f"{folder}: the folders in {train} number the classes, but it does not exist")
        class_names = class_names_from(class_folders(train), str(train))
    label_of = label_finder(class_names)
    names, labels = [], []
    for number, row in read_csv(table, ("ImageId", "PredictionString"), "Kaggle's labels"):
        name, boxes = row["ImageId"], row["PredictionString"].split()
        if not name or not boxes:
            raise bad_line(table, number, ",".join(row.values()), "expected `image,class box ...`")
        names.append(name)
        labels.append(label_of(boxes[0], f"{table}: {name}: class {boxes[0]!r}"))
    paths = [str((folder / f"{name}.JPEG").relative_to(root)) for name in names]
    return FileList(names, labels, paths, class_names, str(root))


def _read_22k(path: Path, root: Path, class_names: Sequence[str] | None) -> FileList:
    rows = read_json(path)
    if not rows:
        raise ValueError(f"{path} lists no images")
    limit = MAX_CLASSES if class_names is None else len(class_names)
    for row in rows:
        if not isinstance(row, list) or len(row) < 2 or type(row[0]) is not str or type(row[1]) is not int:
            raise ValueError(f"{path}: expected JSON of the form [[path, label, ...], ...]; found {shorten(row)}")
        if not UNLABELED <= row[1] < limit:
            raise ValueError(f"{path}: {accepted_labels(class_names)}; found {shorten(row)}")
    paths = [row[0] for row in rows]
    return FileList(paths, [row[1] for row in rows], paths, class_names, str(root))
