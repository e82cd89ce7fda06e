"""Features of many files in a folder: shards of consecutive files, each written atomically.

    features.json                       what they are: network, layer, protocol, class names, number of files
    features-00000-of-00012.npz         the first files of the list, in its order (or .safetensors)
    failures.csv                        the files that could not be read, and why

The files of a shard depend only on the list, never on earlier shards. So a folder that was continued after an
interruption is byte-identical to one that was not interrupted.
"""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from datasets.file_list import FileList
from engine.checkpoint import write_atomically
from settings import SettingsError, differences

FORMATS = ("npz", "safetensors")
ABOUT = "features.json"
FAILURES = "failures.csv"


@dataclass
class Shard:
    """Features of consecutive files of a list."""

    index: list[int] = field(default_factory=list)
    """Positions in the list of the files that could be read."""
    features: list[np.ndarray] = field(default_factory=list)
    """One array per file, all of the same shape."""
    failures: list[dict[str, Any]] = field(default_factory=list)
    """Files that could not be read: dicts with path, reason, index."""


class ShardFolder:
    """The shards of a list of files.

    Args:
        folder: where they are.
        files: the whole list.
        files_per_shard: files in each shard but the last.
        format: "npz" or "safetensors".
        shape: shape of a file's features.
    """

    def __init__(self, folder: Path, files: FileList, files_per_shard: int, format: str, shape: Sequence[int]):
        self.folder, self.files, self.files_per_shard, self.format = folder, files, files_per_shard, format
        self.shape = tuple(shape)

    def __len__(self) -> int:
        return -(-len(self.files) // self.files_per_shard)

    def path(self, number: int) -> Path:
        return self.folder / f"features-{number:05d}-of-{len(self):05d}.{self.format}"

    def rows(self, number: int) -> range:
        """The positions in the list that shard `number` covers."""
        start = number * self.files_per_shard
        return range(start, min(start + self.files_per_shard, len(self.files)))

    def missing(self) -> list[int]:
        """The numbers of the shards that are not written yet."""
        return [number for number in range(len(self)) if not self.path(number).exists()]

    def open(self, about: dict[str, Any]) -> None:
        """Describes the features in the folder, or checks that it has the same. Removes what a killed run left.

        Raises SettingsError if the folder has other features, CheckpointError if it cannot be written.
        """
        path = self.folder / ABOUT
        about = {**about, "files_per_shard": self.files_per_shard, "num_shards": len(self), "format": self.format}
        about = json.loads(json.dumps(about))  # tuples as lists, as they will be read
        if path.exists():
            changed = differences(_read_about(path), about)
            if changed:
                key, (old, new) = next(iter(changed.items()))
                raise SettingsError(
                    f"{self.folder} has other features ({key}: {_brief(old)} there, {_brief(new)} now); choose "
                    "another folder with -o, or delete this one"
                )
        for leftover in self.folder.glob(".*.partial"):
            leftover.unlink()
        write_atomically(path, lambda temporary: temporary.write_text(json.dumps(about, indent=1) + "\n"))

    def write(self, number: int, shard: Shard) -> None:
        features = np.stack(shard.features) if shard.features else np.zeros((0, *self.shape), np.float32)
        items = [self.files[row] for row in shard.index]
        columns = {
            "features": np.ascontiguousarray(features),  # safetensors writes memory as laid out
            "index": np.array(shard.index, np.int64),
            "label": np.array([item.label for item in items], np.int64),
        }
        texts: dict[str, list] = {"id": [item.id for item in items], "path": [item.path for item in items]}
        if self.files.has_several:
            texts["labels"] = [self.files.labels_of(row) for row in shard.index]
        write = _write_npz if self.format == "npz" else _write_safetensors
        write_atomically(self.path(number), lambda temporary: write(temporary, columns, texts, shard.failures))

    def failures(self) -> list[dict[str, Any]]:
        """The files of all shards that could not be read, in the order of the list."""
        return [failure for number in range(len(self)) for failure in read_shard(self.path(number))["failures"]]


def read_shard(path: str | Path) -> dict[str, Any]:
    """A shard: `features` [N, ...], `index` and `label` int64 [N], `id` and `path` (lists of N), `failures`.

    If files of the list have several labels, `label` is the first, and `labels` (a list of N lists) are all.
    """
    path = Path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                columns = {name: arrays[name] for name in arrays.files}
            texts = json.loads(str(columns.pop("texts")))
            return columns | texts
        with safetensors.safe_open(path, "np") as file:
            columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            return columns | json.loads(file.metadata()["texts"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, safetensors.SafetensorError) as error:
        raise SettingsError(f"{path} is damaged; delete it, and the same command writes it again") from error


def read_features(folder: str | Path) -> dict[str, Any]:
    """All features in a folder, in the order of the list: what `read_shard` returns, joined, with `about`.

    Everything is in memory at once; if it does not fit, read the files one by one with `read_shard`.

    Raises SettingsError if the folder has no features or not all of them, or a shard is damaged.
    """
    folder = Path(folder)
    about = _read_about(folder / ABOUT)
    paths = sorted(folder.glob(f"features-*.{about['format']}"))
    if len(paths) != about["num_shards"]:
        raise SettingsError(
            f"{folder} has {len(paths)} of {about['num_shards']} shards; the command that made it writes the others"
        )
    shards = [read_shard(path) for path in paths]
    joined: dict[str, Any] = {"about": about}
    for name in shards[0]:
        parts = [shard[name] for shard in shards]
        joined[name] = np.concatenate(parts) if isinstance(parts[0], np.ndarray) else list(chain.from_iterable(parts))
    return joined


def _read_about(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise SettingsError(
            f"{path.parent} has no {path.name}; tools/extract_features.py -o {path.parent} writes it"
        ) from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _write_npz(path: Path, columns: dict[str, np.ndarray], texts: dict[str, list], failures: list) -> None:
    with open(path, "wb") as file:
        # Text is JSON, in ASCII: a file name need not be valid Unicode.
        np.savez(file, **columns, texts=np.array(json.dumps({**texts, "failures": failures})))


def _write_safetensors(path: Path, columns: dict[str, np.ndarray], texts: dict[str, list], failures: list) -> None:
    metadata = {"texts": json.dumps({**texts, "failures": failures})}
    safetensors.numpy.save_file(columns, path, metadata=metadata)
