"""Opens whatever a list of videos names: a video file, a folder of frames, a member of a tar file; or what is given
instead of a path: an open file, frames in memory."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from datasets.video.container import VideoError
from datasets.video.frame_folder import FrameFolderReader
from datasets.video.frame_reader import FrameReader
from datasets.video.given import FramesReader, file_on_disk
from datasets.video.index_store import IndexStore
from datasets.video.other_decoders import ReaderName, find_reader


@dataclass(frozen=True)
class VideoOpener:
    """`with opener(path) as reader:` opens a video and closes it again; small and picklable.

    `opener(name, content)` opens a binary file or frames, uint8 [T, H, W, 3], instead of a file.

    Attributes:
        reader: which reader decodes video files, a name of `other_decoders.READERS`.
        timeout_seconds: VideoError is raised inside the `with` after this time; None: never.
        stores: where to look for the videos' indices before reading all their packets.
    """

    reader: ReaderName = "pyav"
    timeout_seconds: float | None = None
    stores: tuple[IndexStore, ...] = ()

    def __post_init__(self):
        find_reader(self.reader)

    @contextlib.contextmanager
    def __call__(self, path: str, content: Any = None) -> Iterator[FrameReader]:
        with time_limit(self.timeout_seconds, path), contextlib.ExitStack() as stack:
            if content is None:
                yield stack.enter_context(self._open(path))
            elif hasattr(content, "read"):
                copy = stack.enter_context(file_on_disk(path, content))
                yield stack.enter_context(self._open(copy))
            else:
                yield FramesReader(path, content)

    def _open(self, path: str) -> FrameReader:
        if os.path.isdir(path):
            return FrameFolderReader(path)
        found = (store.find(path) for store in self.stores)
        return find_reader(self.reader)(path, index=next((index for index in found if index is not None), None))


@contextlib.contextmanager
def time_limit(seconds: float | None, path: str) -> Iterator[None]:
    """Raises VideoError inside the `with` after `seconds`; None: never.

    This interrupts waiting for a disk, and decoding between two packets, but not an uninterruptible system call. It
    needs the main thread of a process, where dataloader workers read, and a system with alarms (not Windows); elsewhere
    time is not limited.
    """
    if seconds is None or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise VideoError(path, f"took longer than {seconds:g} seconds to read")

    start = time.monotonic()
    handler = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # repeats, in case an alarm is swallowed
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:  # somebody else's alarm was running
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - start), 1e-3), interval)
