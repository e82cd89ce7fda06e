"""Re-encodes videos so that training reads them quickly.

    python tools/convert_videos.py SOURCE DESTINATION                        every video below a folder, for training
    python tools/convert_videos.py SOURCE DESTINATION --recipe short288      as GloRe's authors did
    python tools/convert_videos.py SOURCE DESTINATION --part 3/8             on the third of eight machines

The same command continues after an interruption: it skips files that are complete, made by this recipe and newer than
their source. DESTINATION/conversion_failures.csv lists the videos that cannot be converted, and those that were
converted although parts of them are damaged. Exit status: 0, or 1 if a video could not be converted. A converted video
has every frame of its source, in order and at its time; the report counts what a damaged one has lost.
"""

import argparse
import csv
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from datasets.dataloader import default_num_workers
from datasets.video.container import VideoError
from datasets.video.convert import Job, convert, find_ffmpeg, find_jobs, is_done, partial_path
from datasets.video.recipes import RECIPES, Recipe
from datasets.worker_pool import Lost, run_each
from engine.progress import terminal_bar
from settings import SettingsError
from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors
from tools.common.output_files import check_folder

log = logging.getLogger(__name__)

FAILED, DAMAGED, DONE, CONVERTED = "failed", "damaged", "done", "converted"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with videos, in folders of any depth")
    parser.add_argument("destination", type=Path, help="folder for the results: same folders and names, as .mp4")
    parser.add_argument("--recipe", choices=RECIPES, default="training", help="how to re-encode (default: training)")
    parser.add_argument("--workers", type=int, default=default_num_workers(1), metavar="N", help="number of processes")
    parser.add_argument(
        "--timeout", type=float, default=600, metavar="SECONDS", help="limit for one video (default: 600)"
    )
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="I/N", help="only part I of N, counted from 1")
    parser.add_argument("--pyav", action="store_true", help="use PyAV even if there is an ffmpeg program")
    args = parse_arguments(parser, argv)
    if args.workers < 1 or args.timeout <= 0:
        parser.error("--workers and --timeout must be more than 0")

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tqdm.monitor_interval = 0  # no monitor thread, because workers are forked
    recipe = RECIPES[args.recipe]
    check_folder(args.destination, "choose another DESTINATION")
    try:
        part, num_parts = args.part
        jobs = find_jobs(args.source, args.destination)[part - 1 :: num_parts]
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from error
    ffmpeg = None if args.pyav else find_ffmpeg(recipe)
    log.info("%d videos, recipe %s, with %s", len(jobs), args.recipe, ffmpeg or "PyAV")
    name = "conversion_failures.csv" if num_parts == 1 else f"conversion_failures.{part}-of-{num_parts}.csv"
    report = args.destination / name
    try:
        args.destination.mkdir(parents=True, exist_ok=True)
        rows, counts = _convert_all(jobs, recipe, ffmpeg, args.workers, args.timeout, _damaged_before(report))
        _write(report, rows)
    except OSError as error:  # the destination cannot be written, so every video would fail
        raise SettingsError(str(error)) from error
    log.info(
        "%d converted (%d of them damaged), %d done before, %d failed%s",
        counts[CONVERTED] + counts[DAMAGED], counts[DAMAGED], counts[DONE], counts[FAILED],
        f"; see {report}" if rows else "",
    )  # fmt: skip
    if counts[FAILED]:
        sys.exit(1)


def _part(text: str) -> tuple[int, int]:
    try:
        part, num_parts = map(int, text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected I/N, such as 3/8") from None
    if not 1 <= part <= num_parts:
        raise argparse.ArgumentTypeError(f"{text!r}; expected 1/{num_parts} to {num_parts}/{num_parts}")
    return part, num_parts


def _convert_all(
    jobs: list[Job], recipe: Recipe, ffmpeg: str | None, num_workers: int, timeout: float, damaged: dict[str, str]
) -> tuple[list[tuple[str, str, str]], dict[str, int]]:
    """Converts what is not done yet -> the report's rows (what happened, path, reason), and counts of what happened.

    `damaged`: path -> reason from an earlier run; it still holds for files that are not converted again.
    """
    rows, counts = [], dict.fromkeys((CONVERTED, DAMAGED, DONE, FAILED), 0)
    function = partial(_convert_one, recipe=recipe, ffmpeg=ffmpeg)
    with terminal_bar(len(jobs), "converting", "video", smoothing=0.02) as bar:
        for job, result in run_each(function, jobs, num_workers, timeout):
            if isinstance(result, Lost):
                kind, reason = FAILED, result.reason
                Path(partial_path(job.target)).unlink(missing_ok=True)
            else:
                kind, reason = result
            counts[kind] += 1
            if kind == DONE and job.source in damaged:
                kind, reason = DAMAGED, damaged[job.source]
            if kind in (FAILED, DAMAGED):
                rows.append((kind, job.source, reason))
            bar.set_postfix(failed=counts[FAILED], done_before=counts[DONE], refresh=False)
            bar.update()
    return sorted(rows), counts


def _convert_one(job: Job, recipe: Recipe, ffmpeg: str | None) -> tuple[str, str]:
    if is_done(job, recipe):
        return DONE, ""
    try:
        complaint = convert(job, recipe, ffmpeg)
    except VideoError as error:
        return FAILED, error.reason
    return (DAMAGED, complaint) if complaint else (CONVERTED, "")


def _damaged_before(report: Path) -> dict[str, str]:
    if not report.exists():
        return {}
    with report.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        try:
            return {path: reason for kind, path, reason in csv.reader(file, strict=True) if kind == DAMAGED}
        except (csv.Error, ValueError) as error:
            raise SettingsError(f"{report} is not a report of this script ({error}); move it away") from error


def _write(report: Path, rows: list[tuple[str, str, str]]) -> None:
    """Replaces the report; removes it if nothing went wrong."""
    if not rows:
        report.unlink(missing_ok=True)
        return
    partial_report = report.with_name(f".{report.name}.partial")
    with partial_report.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([("what", "path", "reason"), *rows])
    os.replace(partial_report, report)


if __name__ == "__main__":
    clear_errors(main)
