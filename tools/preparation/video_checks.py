"""tools/check_videos.py: checks every video of a list or folder, and writes the table of faults and the index."""

import argparse
import csv
import logging
import os
import re
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets.file_list import FileError, FileList
from datasets.text_files import existing_path
from datasets.video.check import CheckResult, check_video
from datasets.video.container import Stamp, video_stamp
from datasets.video.index_store import IndexStoreWriter, store_path
from datasets.video.lists import find_videos, read_videos
from datasets.worker_pool import Lost, run_each
from engine.progress import terminal_bar
from settings import SettingsError
from tools.common.output_files import check_outputs

log = logging.getLogger(__name__)

COLUMNS = ("path", "codec", "width", "height", "frames", "fps", "seconds", "keyframes", "bytes", "fault")
SECONDS_BETWEEN_COMMITS = 5


def check_videos(args: argparse.Namespace) -> bool:
    """Checks what the arguments of tools/check_videos.py name -> whether it has no faults."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tqdm.monitor_interval = 0  # no monitor thread: workers are forked
    try:
        videos = _read(args.source, args.root, args.split)
        index = args.index or store_path(args.source)
        table = index.with_name(store_path(args.source).with_suffix(".checked.csv").name)
        check_outputs([(path, "choose another place with --index") for path in (index, table)], [args.source])
        with IndexStoreWriter(index) as store:
            rows = _check_all(videos, store, args.full, args.workers, args.timeout)
        _write_table(table, rows)
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from error
    faults = Counter(re.sub(r"\d+(\.\d+)?", "N", row["fault"]) for row in rows if row["fault"])
    log.info("%d videos, %d with a fault; table: %s, index: %s", len(rows), faults.total(), table, index)
    for fault, count in faults.most_common(10):
        log.info("%7d  %s", count, fault)
    return not faults


def _read(source: Path, root: Path | None, split: str | None) -> FileList:
    source = existing_path(source.expanduser(), "list or folder of videos")
    if source.is_dir() and root is None and split is None:
        return find_videos([source])
    return read_videos(source, root, split=split)


def _check_all(
    videos: FileList, store: IndexStoreWriter, full: bool, num_workers: int, timeout: float
) -> list[dict[str, Any]]:
    """Checks each file that is not known to be good once -> the row of each video, in list order."""
    known = {item.path: store.facts(item.path) for item in videos}
    good = {path: entry[0] if entry and _is_enough(entry[1], full) else None for path, entry in known.items()}
    rows: dict[str, dict[str, Any]] = {}
    num_kept = num_faults = 0
    last_commit = time.monotonic()
    function = partial(_check_one, full=full)
    with terminal_bar(len(good), "checking", "video", smoothing=0.02) as bar:
        for (path, _), result in run_each(function, good.items(), num_workers, timeout):
            if result is None:
                facts = known[path][1]
                num_kept += 1
            else:
                if isinstance(result, Lost):
                    result = CheckResult(path, None, {"fault": result.reason}, None)
                facts = result.facts
                store.write(*result)
            rows[path] = facts
            num_faults += bool(facts["fault"])
            if time.monotonic() - last_commit > SECONDS_BETWEEN_COMMITS:
                store.commit()
                last_commit = time.monotonic()
            bar.set_postfix(faults=num_faults, known_before=num_kept, refresh=False)
            bar.update()
    return [{"path": item.path, **rows[item.path]} for item in videos]


def _is_enough(facts: dict[str, Any], full: bool) -> bool:
    """Whether a file with these facts needs no further check while it is unchanged."""
    return not facts["fault"] and (facts["full"] or not full)


def _check_one(entry: tuple[str, Stamp | None], full: bool) -> CheckResult | None:
    """The result of a check; None for an unchanged file."""
    path, before = entry
    try:
        unchanged = before is not None and video_stamp(path) == before
    except (OSError, FileError):
        unchanged = False
    return None if unchanged else check_video(path, full)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    partial_table = path.with_name(f".{path.name}.partial")
    with partial_table.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial_table, path)
