"""Writes synthetic sets beside their folder and renames them at the end: a folder is complete or does not exist."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets.class_table import class_table

SPLITS = ("train", "val")


def make_folder_once(folder: str | Path, arguments: dict[str, Any], build: Callable[[Path], None]) -> Path:
    """Fills the set's folder by `build(staging)`, unless it is complete already, and returns it.

    An interrupted start leaves nothing behind, and several processes may start at once. The set's `arguments` are kept
    in `folder/complete.json`.

    Raises:
        FileExistsError: the folder holds other files, or a set made with other arguments.
    """
    folder = Path(folder).absolute()
    if _is_complete(folder, arguments):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as parent:
        staging = Path(parent, folder.name)
        build(staging)
        (staging / "complete.json").write_text(json.dumps(arguments, indent=2) + "\n")
        try:
            staging.rename(folder)
        except OSError:
            if not _is_complete(folder, arguments):  # if it is, another process was faster
                raise
    return folder


def _is_complete(folder: Path, arguments: dict[str, Any]) -> bool:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    note = folder / "complete.json"
    if not note.is_file():
        raise FileExistsError(f"{folder} holds other files, not the synthetic set; choose another folder")
    found = json.loads(note.read_text())
    if found != arguments:
        raise FileExistsError(
            f"{folder} was made with {found}, not with {arguments}; delete it or choose another folder"
        )
    return True


def arguments_of(folder: str | Path) -> dict[str, Any]:
    """The arguments that the set in this folder was made with.

    Raises:
        FileNotFoundError: the folder holds no synthetic set.
    """
    note = Path(folder, "complete.json")
    if not note.is_file():
        raise FileNotFoundError(f"{folder} holds no synthetic set: it has no {note.name}")
    return json.loads(note.read_text())


def write_lists(folder: Path, split: str, class_names: list[str], labels: list[int], paths: list[str]) -> None:
    """Writes `folder/<split>.txt` (id, label, path) and `folder/mapping_table.txt` (label, name), separated by tabs."""
    rows = (f"{Path(path).stem}\t{label}\t{path}\n" for label, path in zip(labels, paths, strict=True))
    (folder / f"{split}.txt").write_text("".join(rows))
    (folder / "mapping_table.txt").write_text(class_table(class_names))
