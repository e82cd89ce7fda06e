"""Converts folders of videos so that training reads them quickly: chooses the files, and checks finished targets.

`recipes.py` defines how they are re-encoded, and `reencode.py` does it. Targets are .mp4 files, which store a time for
each frame. The ffmpeg program does the work; without it, PyAV does, which includes FFmpeg.
"""

import contextlib
import errno
import fcntl
import importlib.util
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av

from datasets.find_files import find_files
from datasets.text_files import existing_path
from datasets.video.container import VideoError, open_container
from datasets.video.lists import VIDEOS
from datasets.video.recipes import Recipe
from datasets.video.reencode import read_source, reencode_by_program, reencode_by_pyav

log = logging.getLogger(__name__)

SUFFIX = ".mp4"


# What to convert ---------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """A file to convert, and where to write the result."""

    source: str
    target: str


def find_jobs(source: Path, destination: Path) -> list[Job]:
    """A job for each video below `source`; `destination` gets the same folders and names, with suffix .mp4.

    Raises OSError if there is no folder `source`, and ValueError if there is nothing to convert, if one folder is
    inside the other, or if two videos would get the same target.
    """
    if not existing_path(source, "folder of videos").is_dir():
        raise NotADirectoryError(f"{source} is a file; expected a folder of videos")
    inner, outer = sorted((source.resolve(), destination.resolve()), key=lambda path: len(path.parts), reverse=True)
    if inner.is_relative_to(outer):
        raise ValueError(f"{source} and {destination}: one is inside the other; choose a destination elsewhere")
    jobs: dict[str, Job] = {}
    for path in find_files(source, VIDEOS._replace(frame_suffixes=())):
        job = Job(str(source / path), str((destination / path).with_suffix(SUFFIX)))
        if other := jobs.get(job.target):
            raise ValueError(f"{other.source} and {job.source} would both become {job.target}; rename one of them")
        jobs[job.target] = job
    if not jobs:
        raise ValueError(f"{source}: no videos in it; expected files that end in {' '.join(VIDEOS.suffixes)}")
    return list(jobs.values())


def is_done(job: Job, recipe: Recipe) -> bool:
    """Whether the job's target is complete, made by this recipe, and not older than its source."""
    try:
        target = os.stat(job.target)
        if target.st_mtime < os.stat(job.source).st_mtime or not _is_complete(job.target, target.st_size):
            return False
        container, _ = open_container(job.target)
    except (OSError, VideoError):
        return False
    with container:
        return container.metadata.get("comment") == recipe.comment


def _is_complete(path: str, num_bytes: int) -> bool:
    """Whether the boxes of an MP4 file end exactly where the file does, and are not empty."""
    position, sizes = 0, {}
    with open(path, "rb") as file:
        while position < num_bytes:
            file.seek(position)
            header = file.read(16)
            size = int.from_bytes(header[:4])
            if size == 1:  # a large box: its size follows in eight bytes
                size = int.from_bytes(header[8:16])
            if size < 8:
                return False
            sizes[header[4:8]] = size
            position += size
    return position == num_bytes and b"moov" in sizes and sizes.get(b"mdat", 0) > 16


# Converting --------------------------------------------------------------------------------------------------------


def find_ffmpeg(recipe: Recipe) -> str | None:
    """The ffmpeg program: the system's, else imageio-ffmpeg's; None if neither has the codec."""
    candidates = [shutil.which("ffmpeg")]
    if importlib.util.find_spec("imageio_ffmpeg"):
        import imageio_ffmpeg

        candidates.append(imageio_ffmpeg.get_ffmpeg_exe())
    return next((program for program in candidates if program and _can_encode(program, recipe.codec)), None)


def _can_encode(program: str, codec: str) -> bool:
    help_text = subprocess.run(
        [program, "-hide_banner", "-h", f"encoder={codec}"], stdin=subprocess.DEVNULL, capture_output=True
    ).stdout
    return f"Encoder {codec}".encode() in help_text


def convert(job: Job, recipe: Recipe, ffmpeg: str | None) -> str:
    """Converts one file with the program `ffmpeg` (None: with PyAV) -> what is wrong with the source, or "".

    PyAV also converts files that the program gets wrong. The target appears only when complete: it is written under
    another name, then renamed.

    Raises VideoError if the file cannot be converted, and OSError if the disk is full.
    """
    os.makedirs(os.path.dirname(job.target), exist_ok=True)
    partial = partial_path(job.target)
    try:
        with _alone_at(partial, job.source):
            return _convert_into(partial, job, recipe, ffmpeg)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise VideoError(job.source, "its name is too long for the temporary name of the target") from error


@contextlib.contextmanager
def _alone_at(partial: str, source: str) -> Iterator[None]:
    """Context in which no other process writes the file `partial`. Raises VideoError if one does."""
    file = os.open(partial, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.exists(partial) and os.path.samestat(os.stat(partial), os.fstat(file))
        except BlockingIOError:
            is_ours = False
        except OSError as error:
            is_ours = True
            log.debug("%s: this disk has no locks: %s", partial, error.strerror)
        if not is_ours:  # open elsewhere, or renamed to its final name meanwhile
            raise VideoError(source, "another command is converting it; start this one again afterwards")
        yield
    finally:
        os.close(file)


def _convert_into(partial: str, job: Job, recipe: Recipe, ffmpeg: str | None) -> str:
    """See `convert`; `partial` is the other name."""
    try:
        source = read_source(job.source, recipe)
        complaint = reencode_by_program(source, partial, recipe, ffmpeg) if ffmpeg else None
        if complaint is None:
            complaint = reencode_by_pyav(source, partial, recipe)
        if not _is_complete(partial, os.stat(partial).st_size):
            raise VideoError(job.source, "its target is incomplete")
        os.replace(partial, job.target)
    except av.FFmpegError as error:
        if error.errno == errno.ENOSPC:
            message = f"{job.target}: {error.strerror}; free some, and the same command continues"
            raise OSError(message) from error
        raise VideoError(job.source, f"cannot be converted: {error.strerror}") from error
    finally:
        if os.path.exists(partial):
            os.remove(partial)
    return complaint


def partial_path(target: str) -> str:
    """The name of a target while it is being written."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.partial")
