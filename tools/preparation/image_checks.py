"""tools/check_images.py: checks every image of a set, and writes the table of their faults."""

import argparse
import csv
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets.class_table import read_class_names
from datasets.dense.check import Entry, check_entry, coco_entries, label_map_entries
from datasets.dense.label_maps import read_label_maps
from datasets.dense.label_values import IGNORED
from datasets.images.lists import find_images, read_images
from datasets.text_files import existing_path, numbered_lines, whole_numbers
from datasets.worker_pool import Lost, run_each
from engine.progress import counted, terminal_bar
from settings import SettingsError, some_of
from tools.common.output_files import check_outputs, check_replaces_text

log = logging.getLogger(__name__)

NUM_SHOWN = 8
"""Number of classes whose fraction of the pixels is logged."""
COLUMNS = {name: name for name in ("path", "width", "height", "turned", "objects")} | {"faults": "fault"}
"""Keys of a row of `check_entry` -> column names in the table."""
NUMBER = re.compile(r"(?<!\b[xy])-?\d+(\.\d+)?(?!\d|-bit)")
"""In a fault, what differs from image to image; not the 1 of x1."""


def check_images(args: argparse.Namespace) -> bool:
    """Checks what the arguments of tools/check_images.py name -> whether it has no faults."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tqdm.monitor_interval = 0  # no monitor thread: workers are forked
    table = args.table or Path(f"{str(args.source).rstrip('/')}.checked.csv")
    inputs = [args.source, args.class_names]
    check_outputs([(table, "choose another one with --table")], inputs, check_replaces_text)
    try:
        entries, class_names = _entries(args)
        rows = _check_all(list(entries), args.workers, args.timeout)
        with table.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.DictWriter(file, list(COLUMNS), restval="", extrasaction="ignore")
            writer.writerow(COLUMNS)
            writer.writerows({**row, "faults": "; ".join(row["faults"])} for row in rows)
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from error
    is_good = _report(rows, table)
    if counts := [row["pixels"] for row in rows if "pixels" in row]:
        _say_shares(sum(counts), class_names)
    return is_good


def _entries(args: argparse.Namespace) -> tuple[Iterable[Entry], Sequence[str]]:
    """What to check, and the classes of its label maps."""
    source = existing_path(args.source.expanduser(), "set of images")
    if source.suffix.lower() == ".json":
        root = source.parent if args.root is None else existing_path(args.root.expanduser(), "root folder")
        return coco_entries(source, root), ()
    options = (args.labels, args.split, args.num_classes, args.class_names, args.ignored_label)
    if source.is_dir() and all(option is None for option in options):
        return (Entry(item.path) for item in find_images([source])), ()
    if source.is_file() and all(option is None for option in options) and _has_labels(source):
        return (Entry(item.path) for item in read_images(source, args.root)), ()
    names = None if args.class_names is None else read_class_names(args.class_names, is_of_pixels=True)
    files = read_label_maps(
        source, args.labels, args.root, args.split, names, args.num_classes, ignored_label=args.ignored_label
    )
    return label_map_entries(files), files.class_names


def _has_labels(path: Path) -> bool:
    """Whether a list is of lines `id label path`, as for classification, by its first line."""
    fields = next(numbered_lines(path))[1].split(None, 2)
    return len(fields) == 3 and whole_numbers(fields[1].split(",")) is not None


def _check_all(entries: list[Entry], num_workers: int, timeout: float) -> list[dict[str, Any]]:
    """The row of each entry, in their order."""
    rows: dict[int, dict[str, Any]] = {}
    results = run_each(_check_numbered, enumerate(entries), num_workers, timeout)
    with terminal_bar(len(entries), "checking", "image", smoothing=0.02) as bar:
        for (number, entry), result in counted(results, bar):
            rows[number] = {"path": entry.path, "faults": [result.reason]} if isinstance(result, Lost) else result
    return [rows[number] for number in range(len(entries))]


def _check_numbered(numbered: tuple[int, Entry]) -> dict[str, Any]:
    return check_entry(numbered[1])


def _report(rows: list[dict[str, Any]], table: Path) -> bool:
    """Logs the number of faults of each kind -> whether there are none."""
    bad = [row for row in rows if row["faults"]]
    kinds = Counter(_kind(fault, row["path"]) for row in bad for fault in row["faults"])
    log.info("%d entries, %d with a fault; table: %s", len(rows), len(bad), table)
    turned = [row["path"] for row in rows if row.get("turned")]
    if turned:
        log.info(
            "turned upright as EXIF says: %d, first %s; boxes, masks and label maps must be drawn on the upright image",
            *(len(turned), turned[0]),
        )
    for fault, count in kinds.most_common(10):
        log.info("%7d  %s", count, fault)
    return not kinds


def _say_shares(counts: np.ndarray, class_names: Sequence[str]) -> None:
    """Logs the classes of the pixels of all label maps; `counts` [256] of each label and of ignored pixels."""
    total, of_classes = counts.sum(), counts[: len(class_names)]
    most = np.argsort(-of_classes, kind="stable")[:NUM_SHOWN]
    shares = ", ".join(f"{class_names[label]} {100 * of_classes[label] / total:.1f} %" for label in most)
    more = f" and {len(class_names) - NUM_SHOWN} more" if len(class_names) > NUM_SHOWN else ""
    log.info("pixels: %s%s; %.1f %% are ignored", shares, more, 100 * counts[IGNORED] / total)
    if missing := [name for name, count in zip(class_names, of_classes, strict=True) if not count]:
        log.warning("no pixel of %s", some_of(missing, len(class_names)))


def _kind(fault: str, path: str) -> str:
    """A fault without what is specific to one image: its numbers, and the name of its label map."""
    stem = re.escape(os.path.splitext(os.path.basename(path))[0])
    fault = re.sub(rf"\S*{stem}\S*: ", "", fault)
    return re.sub(r"\[N(, N)+\]", "[N, ...]", NUMBER.sub("N", fault))
