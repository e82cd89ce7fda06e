"""Raw videos, from the file to a batch of clips.

    video file -> list -> reader (index) -> sampling -> transforms (resize) -> dataiter -> dataloader -> device -> color

`convert` re-encodes videos, `layouts` writes lists, `check` finds faults, and `index_store` stores every file's index.

>>> from datasets.video import VideoReader
>>> with VideoReader("clip.mp4") as video:                                          # doctest: +SKIP
...     clip = video.get_frames(range(0, video.num_frames, 8))  # uint8 [T, H, W, 3]
"""

from datasets.video.color import ColorSettings, ColorTransform
from datasets.video.container import VideoError
from datasets.video.dataiter import TrainClips, VideoViews
from datasets.video.frame_folder import FrameFolderReader
from datasets.video.frame_reader import FrameReader
from datasets.video.index_store import IndexStore, find_store
from datasets.video.lists import find_videos, read_videos
from datasets.video.multigrid import ClipShape, Multigrid, MultigridSettings, StepGrids
from datasets.video.open_video import VideoOpener
from datasets.video.other_decoders import READERS, ReaderName, find_reader
from datasets.video.reader import VideoReader
from datasets.video.sampling import EvenSampling, EvenSegments, RandomSampling, RandomSegments, ShortVideo
from datasets.video.transforms import EvalView, EvalViewSettings, TrainView, TrainViewSettings

__all__ = [
    "READERS",
    "ClipShape",
    "ColorSettings",
    "ColorTransform",
    "EvalView",
    "EvalViewSettings",
    "EvenSampling",
    "EvenSegments",
    "FrameFolderReader",
    "FrameReader",
    "IndexStore",
    "Multigrid",
    "MultigridSettings",
    "RandomSampling",
    "RandomSegments",
    "ReaderName",
    "ShortVideo",
    "StepGrids",
    "TrainClips",
    "TrainView",
    "TrainViewSettings",
    "VideoError",
    "VideoOpener",
    "VideoReader",
    "VideoViews",
    "find_reader",
    "find_store",
    "find_videos",
    "read_videos",
]  # fmt: skip
