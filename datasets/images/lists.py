"""Lists of images with their labels: ImageNet's layouts, and our own list files."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from datasets.file_list import FileKind, FileList, existing_path, find_unlabeled, label_finder, read_folder, read_list

IMAGES = FileKind("images", (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
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
    if source.is_dir():
        if not any(entry.is_dir() for entry in source.iterdir()):
            return _read_flat(source, root or source, class_names)
        return read_folder(source, root or source, class_names, IMAGES)
    with open(source, "rb") as file:
        is_json = file.read(1) == b"["
    if is_json:
        return _read_22k(source, root or source.parent, class_names)
    return read_list(source, root or source.parent, class_names)


def find_images(places: Iterable[str | Path]) -> FileList:
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
        class_names = sorted(entry.name for entry in train.iterdir() if entry.is_dir())
    label_of = label_finder(class_names)
    with table.open(newline="") as file:
        rows = [(row["ImageId"], row["PredictionString"].split()[0]) for row in csv.DictReader(file)]
    names = [name for name, _ in rows]
    labels = [label_of(synset, f"{table}: {name}: class {synset!r}") for name, synset in rows]
    paths = [str((folder / f"{name}.JPEG").relative_to(root)) for name in names]
    return FileList(names, labels, paths, class_names, str(root))


def _read_22k(path: Path, root: Path, class_names: Sequence[str] | None) -> FileList:
    try:
        rows = [(str(row[0]), int(row[1])) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise ValueError(f"{path}: expected JSON of the form [[path, label, ...], ...] ({error})") from None
    if not rows:
        raise ValueError(f"{path} lists no images")
    paths = [image for image, _ in rows]
    return FileList(paths, [label for _, label in rows], paths, class_names, str(root))
