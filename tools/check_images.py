"""Finds faults in sets for detection and segmentation, and in plain folders of images.

    python tools/check_images.py instances_train.json --root train        boxes and masks in COCO's form
    python tools/check_images.py IMAGES --labels LABELS --num-classes 11  images and label maps in parallel folders
    python tools/check_images.py list.txt --num-classes 11                lines `image label_map`
    python tools/check_images.py ADE20K --split train                     the layout of ADE20K or of Cityscapes
    python tools/check_images.py IMAGES                                   can every image be read?

It reads every image, and finds those that are missing, damaged or of another size than stated; boxes that are
degenerate or outside their image; polygons and run lengths with faults; label maps of another size, kind or with values
out of range. A row for each image goes to SOURCE.checked.csv, and one for each fault of a COCO file that belongs to no
image. Exit status: 0, or 1 if there is a fault.
"""

import argparse
import csv
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from datasets.class_table import read_class_names
from datasets.dataloader import default_num_workers
from datasets.dense.check import Entry, check_entry, coco_entries, label_map_entries
from datasets.dense.label_maps import read_label_maps
from datasets.images.lists import find_images
from datasets.text_files import existing_path
from datasets.worker_pool import Lost, run_each
from engine.progress import counted, terminal_bar
from settings import SettingsError
from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors
from tools.common.output_files import check_file

log = logging.getLogger(__name__)

COLUMNS = ("path", "width", "height", "objects", "fault")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="COCO json, list of images and label maps, or folder")
    parser.add_argument("--root", type=Path, help="folder that paths are relative to (default: the source's own)")
    parser.add_argument("--labels", type=Path, metavar="DIR", help="folder of the label maps")
    parser.add_argument("--split", help="train or val, of ADE20K and Cityscapes")
    parser.add_argument("--num-classes", type=int, metavar="N", help="number of classes of the label maps")
    parser.add_argument("--class-names", type=Path, metavar="TABLE", help="table of the classes of the label maps")
    parser.add_argument("--ignored-label", type=int, metavar="N", help="value of the label maps that is ignored")
    parser.add_argument("--table", type=Path, help="table to write (default: SOURCE.checked.csv)")
    parser.add_argument("--workers", type=int, default=default_num_workers(1), metavar="N", help="number of processes")
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS", help="limit for one image (120)")
    args = parse_arguments(parser, argv)
    if args.workers < 1 or args.timeout <= 0:
        parser.error("--workers and --timeout must be more than 0")

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tqdm.monitor_interval = 0  # no monitor thread, because workers are forked
    table = args.table or Path(f"{str(args.source).rstrip('/')}.checked.csv")
    check_file(table, "choose another one with --table")
    try:
        rows = _check_all(list(_entries(args)), args.workers, args.timeout)
        with table.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(rows)
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from error
    _report(rows, table)


def _entries(args: argparse.Namespace) -> Iterable[Entry]:
    source = existing_path(args.source.expanduser(), "set of images")
    if source.suffix.lower() == ".json":
        root = source.parent if args.root is None else existing_path(args.root.expanduser(), "root folder")
        return coco_entries(source, root)
    options = (args.labels, args.split, args.num_classes, args.class_names, args.ignored_label)
    if source.is_dir() and all(option is None for option in options):
        return (Entry(item.path) for item in find_images([source]))
    names = None if args.class_names is None else read_class_names(args.class_names)
    files = read_label_maps(
        source, args.labels, args.root, args.split, names, args.num_classes, ignored_label=args.ignored_label
    )
    return label_map_entries(files)


def _check_all(entries: list[Entry], num_workers: int, timeout: float) -> list[dict[str, Any]]:
    """The row of each entry, in their order."""
    rows: dict[int, dict[str, Any]] = {}
    results = run_each(_check_numbered, enumerate(entries), num_workers, timeout)
    with terminal_bar(len(entries), "checking", "image", smoothing=0.02) as bar:
        for (number, entry), result in counted(results, bar):
            rows[number] = {"path": entry.path, "fault": result.reason} if isinstance(result, Lost) else result
    return [rows[number] for number in range(len(entries))]


def _check_numbered(numbered: tuple[int, Entry]) -> dict[str, Any]:
    return check_entry(numbered[1])


def _report(rows: list[dict[str, Any]], table: Path) -> None:
    """Logs how many faults of each kind there are, and exits with status 1 if any."""
    kinds = Counter(re.sub(r"\d+(\.\d+)?", "N", row["fault"]) for row in rows if row["fault"])
    log.info("%d entries, %d with a fault; table: %s", len(rows), kinds.total(), table)
    for fault, count in kinds.most_common(10):
        log.info("%7d  %s", count, fault)
    if kinds:
        sys.exit(1)


if __name__ == "__main__":
    clear_errors(main)
