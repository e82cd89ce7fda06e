"""tools/convert_videos.py: re-encodes every video of a folder, and writes the table of failures."""

import argparse
import csv
import logging
import os
from functools import partial
from pathlib import Path

from tqdm import tqdm

from datasets.video.container import VideoError
from datasets.video.convert import Job, convert, find_ffmpeg, find_jobs, is_done, partial_path
from datasets.video.recipes import RECIPES, Recipe
from datasets.worker_pool import Lost, run_each
from engine.progress import terminal_bar
from settings import SettingsError
from tools.common.output_files import check_folder

log = logging.getLogger(__name__)

FAILED, DAMAGED, DONE, CONVERTED = "failed", "damaged", "done", "converted"
COLUMNS = ("what", "path", "reason")
"""Of the report."""


def convert_videos(args: argparse.Namespace) -> bool:
    """Converts the videos that the arguments of tools/convert_videos.py name -> whether all could be converted.

    Raises SettingsError if a folder cannot be read or written.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tqdm.monitor_interval = 0  # no monitor thread: workers are forked
    recipe = RECIPES[args.recipe]
    if args.short_side is not None:
        recipe = recipe._replace(short_side=args.short_side)
    check_folder(args.destination, "choose another DESTINATION")
    try:
        part, num_parts = args.part
        jobs = find_jobs(args.source, args.destination)[part - 1 :: num_parts]
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from error
    ffmpeg = None if args.pyav else find_ffmpeg(recipe)
    log.info(
        "%d videos, recipe %s, short side at most %d, with %s",
        len(jobs), args.recipe, recipe.short_side, ffmpeg or "PyAV",
    )  # fmt: skip
    name = "conversion_failures.csv" if num_parts == 1 else f"conversion_failures.{part}-of-{num_parts}.csv"
    report = args.destination / name
    try:
        args.destination.mkdir(parents=True, exist_ok=True)
        rows, counts = _convert_all(jobs, recipe, ffmpeg, args.workers, args.timeout, report)
        _write(report, rows)
    except OSError as error:  # the destination cannot be written, so every video would fail
        raise SettingsError(str(error)) from error
    log.info(
        "%d converted (%d of them damaged), %d done before, %d failed%s",
        counts[CONVERTED] + counts[DAMAGED], counts[DAMAGED], counts[DONE], counts[FAILED],
        f"; see {report}" if rows else "",
    )  # fmt: skip
    return not counts[FAILED]


def _convert_all(
    jobs: list[Job], recipe: Recipe, ffmpeg: str | None, num_workers: int, timeout: float, report: Path
) -> tuple[list[tuple[str, str, str]], dict[str, int]]:
    """Converts what is not done yet -> the report's rows (outcome, path, reason), and the number of each outcome.

    The `report` of an earlier or concurrent run remains valid for files that are not converted again. Rows are added to
    it at once, so that even a killed run has reported what it converted despite damage.
    """
    _damaged_in(report)
    rows, done, counts = [], [], dict.fromkeys((CONVERTED, DAMAGED, DONE, FAILED), 0)
    function = partial(_convert_one, recipe=recipe, ffmpeg=ffmpeg)
    with terminal_bar(len(jobs), "converting", "video", smoothing=0.02) as bar:
        for job, result in run_each(function, jobs, num_workers, timeout):
            if isinstance(result, Lost):
                kind, reason = FAILED, result.reason
                Path(partial_path(job.target)).unlink(missing_ok=True)
            else:
                kind, reason = result
            counts[kind] += 1
            if kind in (FAILED, DAMAGED):
                _append(report, (kind, job.source, reason))
                rows.append((kind, job.source, reason))
            elif kind == DONE:
                done.append(job.source)
            bar.set_postfix(failed=counts[FAILED], done_before=counts[DONE], refresh=False)
            bar.update()
    damaged = _damaged_in(report)
    rows += [(DAMAGED, source, damaged[source]) for source in done if source in damaged]
    return sorted(rows), counts


def _convert_one(job: Job, recipe: Recipe, ffmpeg: str | None) -> tuple[str, str]:
    if is_done(job, recipe):
        return DONE, ""
    try:
        complaint = convert(job, recipe, ffmpeg)
    except VideoError as error:
        return FAILED, error.reason
    return (DAMAGED, complaint) if complaint else (CONVERTED, "")


def _damaged_in(report: Path) -> dict[str, str]:
    """Why sources are damaged, according to a report. Raises SettingsError if it is not a report."""
    if not report.exists():
        return {}
    with report.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        try:
            return {path: reason for kind, path, reason in csv.reader(file, strict=True) if kind == DAMAGED}
        except (csv.Error, ValueError) as error:
            raise SettingsError(f"{report} is not a report of this script ({error}); move it away") from error


def _append(report: Path, row: tuple[str, str, str]) -> None:
    rows = [row] if report.exists() else [COLUMNS, row]
    with report.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows(rows)


def _write(report: Path, rows: list[tuple[str, str, str]]) -> None:
    """Replaces the report; removes it if nothing went wrong."""
    if not rows:
        report.unlink(missing_ok=True)
        return
    partial_report = report.with_name(f".{report.name}.partial")
    with partial_report.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    os.replace(partial_report, report)
