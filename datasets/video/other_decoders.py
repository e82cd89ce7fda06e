"""Other libraries behind the interface of `VideoReader`, with the same frames bit for bit: decord, torchcodec, OpenCV.

They are faster or slower by file and machine; none is needed. What the file is, and how many frames it has, is found by
our own index, and a file of which a library is known to give other frames is read by our reader instead:

| what | decord | torchcodec | OpenCV |
|---|---|---|---|
| members of tar files | errors | errors | errors |
| several video streams | takes the "best" one | the same | the first, as we do |
| more than 8 bits a color, or halved colors of an odd size | other colors | other colors | other colors |
| containers other than MP4, MOV, Matroska and AVI | other frames, errors | the same | other frames after a seek |
| AVI with B-frames | other frames after a seek | other frames, errors | right |
| open groups of pictures: frames that need those before a keyframe | other frames after a seek | the same | right |
| frames that are turned | errors | right | right |
| AV1 | errors | right | errors |

All give whole frames; their `get_clips` is `get_resized`. Not noticed: H.264 that refreshes its picture bit by bit
instead of by keyframes; decord and torchcodec give frames that are not yet whole after a seek.

`torchcodec_cuda` decodes in the video unit of a GPU, which rounds colors in its own way: what it gives is near these
frames, not the same. To it go only upright files in YUV 4:2:0 of limited range, which all such units know.
"""

import os
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import av
import numpy as np
import torch

from datasets.video.frame_reader import FrameReader
from datasets.video.index import VideoError, VideoIndex
from datasets.video.reader import VideoReader
from datasets.video.shards import split_member
from settings import did_you_mean

ReaderName = Literal["pyav", "decord", "torchcodec", "torchcodec_cuda", "opencv"]

COMMON_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"}


class OtherReader(FrameReader):
    """What the readers of other libraries have in common. Arguments, attributes and errors as in `VideoReader`."""

    diverges_on: ClassVar[frozenset[str]] = frozenset({"streams", "colors", "container", "member"})
    """The divergences, by their names in `find_divergences`, on which our reader is asked instead."""

    def __init__(self, path, *, index: VideoIndex | None = None, num_threads: int = 1):
        self.video = VideoReader(path, index=index, num_threads=num_threads)
        self.path, self.index, self.num_frames = self.video.path, self.video.index, self.video.num_frames
        self.fps, self.duration_seconds = self.video.fps, self.video.duration_seconds
        self.height, self.width, self.rotation = self.video.height, self.video.width, self.video.rotation
        self.codec = self.video.codec
        self.divergences = find_divergences(self.video) & self.diverges_on
        self._decoder = None
        try:
            if not self.divergences:
                self._decoder = self.told(self.open, self.path, num_threads)
                if self.count() != self.num_frames:
                    self._decoder, self.divergences = None, {"count"}
        except BaseException:
            self.video.close()
            raise

    def close(self):
        self._decoder = None
        self.video.close()

    def get_frames(self, indices: Iterable[int]) -> torch.Tensor:
        """uint8 [T, H, W, 3], see `VideoReader.get_frames`."""
        return self.frames_in_place(indices).cpu()

    def frames_in_place(self, indices: Iterable[int]) -> torch.Tensor:
        if self._decoder is None:
            return self.video.get_frames(indices)
        indices = self.check_indices(indices)
        if not indices:
            return self.video.get_frames([])
        wanted = sorted(set(indices))
        frames = self.told(self.decode, wanted)
        if tuple(frames.shape[1:3]) != (self.height, self.width):
            raise VideoError(self.path, f"frames of {tuple(frames.shape[1:3])} instead of {(self.height, self.width)}")
        return frames if wanted == indices else frames[np.searchsorted(wanted, indices)]

    def told(self, read, *arguments):
        """`read(*arguments)`, whatever error the library raises as VideoError."""
        try:
            return read(*arguments)
        except Exception as error:  # each library raises its own, RuntimeError for the most part
            reason = (str(error).strip() or type(error).__name__).split("\n")[0]
            raise VideoError(self.path, f"{type(self).__name__}: {reason}") from error

    # What a library does.

    @staticmethod
    def load() -> None:
        """Imports the library."""
        raise NotImplementedError

    def open(self, path: str, num_threads: int) -> Any:
        """The library's own reader."""
        raise NotImplementedError

    def count(self) -> int:
        """How many frames the library finds."""
        raise NotImplementedError

    def decode(self, indices: list[int]) -> torch.Tensor:
        """Frames by their numbers, ascending -> uint8 [T, H, W, 3]."""
        raise NotImplementedError


class DecordReader(OtherReader):
    """decord, https://github.com/dmlc/decord."""

    diverges_on = OtherReader.diverges_on | {"b_frames_in_avi", "open_gops", "turned", "av1"}

    @staticmethod
    def load() -> None:
        import decord

        decord.logging.set_level(decord.logging.FATAL)

    def open(self, path: str, num_threads: int) -> Any:
        import decord

        return decord.VideoReader(path, decord.cpu(0), num_threads=num_threads)

    def count(self) -> int:
        return len(self._decoder)

    def decode(self, indices: list[int]) -> torch.Tensor:
        return torch.from_numpy(self._decoder.get_batch(indices).asnumpy())


class TorchCodecReader(OtherReader):
    """torchcodec, https://github.com/meta-pytorch/torchcodec, in its exact mode on the CPU."""

    device = "cpu"
    diverges_on = OtherReader.diverges_on | {"b_frames_in_avi", "open_gops"}

    @staticmethod
    def load() -> None:
        import torchcodec.decoders  # noqa: F401

    def open(self, path: str, num_threads: int) -> Any:
        from torchcodec.decoders import VideoDecoder

        return VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=num_threads, device=self.device)

    def count(self) -> int:
        return len(self._decoder)

    def decode(self, indices: list[int]) -> torch.Tensor:
        return self._decoder.get_frames_at(indices).data


class TorchCodecCudaReader(TorchCodecReader):
    """torchcodec in the video unit of this rank's GPU; frames are made smaller there, and leave it as clips."""

    diverges_on = TorchCodecReader.diverges_on | {"turned", "not_420"}
    can_fork = False

    @property
    def device(self) -> str:
        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}"

    @staticmethod
    def load() -> None:
        TorchCodecReader.load()
        if not torch.cuda.is_available():
            raise RuntimeError("this machine has no usable GPU")


class OpenCVReader(OtherReader):
    """OpenCV's VideoCapture, with a seek where it saves decoding."""

    diverges_on = OtherReader.diverges_on | {"av1"}

    @staticmethod
    def load() -> None:
        import cv2  # noqa: F401

    def open(self, path: str, num_threads: int) -> Any:
        import cv2

        return cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, num_threads])

    def count(self) -> int:
        import cv2

        return int(self._decoder.get(cv2.CAP_PROP_FRAME_COUNT))

    def decode(self, indices: list[int]) -> torch.Tensor:
        import cv2

        starts = self.index.frame_starts
        frames, here = [], int(self._decoder.get(cv2.CAP_PROP_POS_FRAMES))
        for i in indices:
            if i < here or (i > here and starts[i] != starts[min(here, self.num_frames - 1)]):
                self._decoder.set(cv2.CAP_PROP_POS_FRAMES, i)
            else:
                for _ in range(i - here):
                    self._decoder.grab()
            decoded, frame = self._decoder.read()
            if not decoded:
                raise RuntimeError(f"frame {i} of {self.num_frames} cannot be decoded")
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            here = i + 1
        return torch.from_numpy(np.stack(frames))


READERS = {
    "pyav": VideoReader,
    "decord": DecordReader,
    "torchcodec": TorchCodecReader,
    "torchcodec_cuda": TorchCodecCudaReader,
    "opencv": OpenCVReader,
}


def find_reader(name: str) -> type:
    """The class of reader of this name. Raises ValueError for a name unknown, or a library that cannot be loaded."""
    if name not in READERS:
        raise ValueError(f"no reader is called {name!r}{did_you_mean(name, READERS)} (choices: {', '.join(READERS)})")
    reader = READERS[name]
    if reader is not VideoReader:
        try:
            reader.load()
        except (ImportError, OSError, RuntimeError) as error:  # a library, or one that it needs, is not there
            reason = str(error).strip().split("\n")[0]
            raise ValueError(f"reader {name} cannot be used here ({reason}); install it, or take pyav") from error
    return reader


def find_divergences(video: VideoReader) -> set[str]:
    """What of the table above is true of a video."""
    index, divergences = video.index, set()
    if video.num_streams > 1:
        divergences.add("streams")
    colors = av.VideoFormat(video.pixel_format, 2, 2).components if video.pixel_format else []
    is_halved = any(part.width < 2 or part.height < 2 for part in colors)
    if not colors or colors[0].bits != 8 or (is_halved and (video.height % 2 or video.width % 2)):
        divergences.add("colors")
    if video.pixel_format != "yuv420p":
        divergences.add("not_420")
    if video.container not in COMMON_CONTAINERS:
        divergences.add("container")
    if video.container == "avi" and (np.diff(index.frame_packets) < 0).any():
        divergences.add("b_frames_in_avi")
    if (np.diff(index.frame_starts[np.argsort(index.frame_packets)]) < 0).any():
        divergences.add("open_gops")
    if split_member(video.path):
        divergences.add("member")
    if video.rotation:
        divergences.add("turned")
    if video.codec == "av1":
        divergences.add("av1")
    return divergences
