"""Readers that decode with decord, torchcodec or OpenCV, and return the frames of `VideoReader` bit for bit.

Which is fastest depends on file and machine; none is required. Our own index identifies the file and its number of
frames, and `VideoReader` reads files for which a library is known to return other frames:

| what | decord | torchcodec | OpenCV |
|---|---|---|---|
| members of tar files | errors | errors | errors |
| several video streams | takes the "best" one | the same | the first, as we do |
| more than 8 bits per color, rare formats, subsampled colors at an odd size | other colors | the same | the same |
| colors in BT.2020 | right | right | other colors |
| interlaced frames | other colors | other colors | other frames |
| a change of size or scanning in mid-stream | other frames | errors | other frames |
| containers other than MP4, MOV, Matroska and AVI | other frames, errors | the same | other frames after a seek |
| AVI | other frames after a seek | other frames, errors | right |
| open GOPs: frames that refer to frames before a keyframe | other frames after a seek | the same | right |
| false keyframes, as where H.264 refreshes its picture gradually | other frames after a seek | the same | right here |
| times that are equal or go back | other frames | other frames, errors | other counts |
| frames that are not evenly spaced in time | right | right | errors |
| packets that display nothing, as edit lists cut them | other counts | other frames | other counts |
| turned or mirrored frames | errors, as stored | right if turned, and not by H.264 | the same |
| AV1 | errors | right | errors |

A file in which a library finds another number of frames, or fails, is left to `VideoReader` as well. All return
full-size frames; their `get_clips` is `get_resized_clips`. One case goes unnoticed: for a damaged frame, libraries
return whatever their decoder outputs, where `VideoReader` raises an error; `tools/check_videos.py --full` finds such
files.

`torchcodec_cuda` decodes in a GPU's video unit, which rounds colors differently: its frames are close to ours, but not
equal. It gets only files in YUV 4:2:0 of limited range, which all such units support.
"""

import importlib
import logging
import os
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import av
import numpy as np
import torch

from datasets.video.frame_reader import FrameReader
from datasets.video.index import VideoIndex
from datasets.video.reader import VideoReader
from datasets.video.shards import split_member
from settings import did_you_mean

ReaderName = Literal["pyav", "decord", "torchcodec", "torchcodec_cuda", "opencv"]

log = logging.getLogger(__name__)

COMMON_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"}
# Pixel formats for which all libraries have been seen to return our colors.
COMMON_FORMATS = {
    *("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "yuva420p"),
    *("gray", "gbrp", "rgb24", "bgr24"),
}
BT2020 = {9, 10}  # by FFmpeg's numbers of colorspaces


class OtherDecoderReader(FrameReader):
    """Base class of readers that decode with another library. Arguments, attributes and errors as in `VideoReader`."""

    diverges_on: ClassVar[frozenset[str]] = frozenset(
        {
            "streams",
            "colors",
            "interlaced",
            "changes",
            "container",
            "member",
            "false_keyframes",
            "times",
            "hidden",
            "turned",
        }
    )
    """The divergences, named as in `find_divergences`, for which `VideoReader` reads the file instead."""

    def __init__(self, path, *, index: VideoIndex | None = None, num_threads: int = 1):
        ours = self._ours = VideoReader(path, index=index, num_threads=num_threads)
        self.path, self.index, self.num_frames = ours.path, ours.index, ours.num_frames
        self.fps, self.duration_seconds = ours.fps, ours.duration_seconds
        self.height, self.width, self.codec = ours.height, ours.width, ours.codec
        self.rotation, self.is_mirrored = ours.rotation, ours.is_mirrored
        self.divergences = find_divergences(ours) & self.diverges_on
        self._decoder = None
        try:
            if not self.divergences:
                self._decoder = self._call(self.open_decoder, self.path, num_threads)
                if self._decoder is not None and self.count_frames() != self.num_frames:
                    self._decoder, self.divergences = None, {"count"}
        except BaseException:
            ours.close()
            raise

    def close(self):
        self._decoder = None
        self._ours.close()

    def get_frames(self, indices: Iterable[int]) -> torch.Tensor:
        """uint8 [T, H, W, 3], see `VideoReader.get_frames`."""
        return self.get_frames_on_device(indices).cpu()

    def get_frames_on_device(self, indices: Iterable[int]) -> torch.Tensor:
        if self._decoder is None:
            return self._ours.get_frames(indices)
        indices = self.check_indices(indices)
        if not indices:
            return self._ours.get_frames([])
        wanted = sorted(set(indices))
        frames = self._call(self._decode, wanted)
        if frames is None:
            return self._ours.get_frames(indices)
        return frames if wanted == indices else frames[np.searchsorted(wanted, indices)]

    def _decode(self, wanted: list[int]) -> torch.Tensor:
        frames = self.decode_frames(wanted)
        if tuple(frames.shape[1:3]) != (self.height, self.width):
            raise RuntimeError(f"frames of {tuple(frames.shape[1:3])} instead of {(self.height, self.width)}")
        return frames

    def _call(self, function, *arguments):
        """`function(*arguments)`; None if the library raises an error: from then on, `VideoReader` reads the file."""
        try:
            return function(*arguments)
        except Exception as error:  # each library raises its own, mostly RuntimeError
            reason = (str(error).strip() or type(error).__name__).split("\n")[0]
            log.warning("%s: %s failed (%s); PyAV reads it", self.path, type(self).__name__, reason)
            self._decoder, self.divergences = None, {"error"}
            return None

    # What a subclass implements.

    @staticmethod
    def load() -> None:
        """Imports the library."""
        raise NotImplementedError

    def open_decoder(self, path: str, num_threads: int) -> Any:
        """The library's own decoder of a file."""
        raise NotImplementedError

    def count_frames(self) -> int:
        """The number of frames that the library finds."""
        raise NotImplementedError

    def decode_frames(self, indices: list[int]) -> torch.Tensor:
        """Frames by their numbers, ascending -> uint8 [T, H, W, 3]."""
        raise NotImplementedError


class DecordReader(OtherDecoderReader):
    """decord, https://github.com/dmlc/decord."""

    diverges_on = OtherDecoderReader.diverges_on | {"avi", "open_gops", "av1"}

    @staticmethod
    def load() -> None:
        import decord

        decord.logging.set_level(decord.logging.FATAL)

    def open_decoder(self, path: str, num_threads: int) -> Any:
        import decord

        return decord.VideoReader(path, decord.cpu(0), num_threads=num_threads)

    def count_frames(self) -> int:
        return len(self._decoder)

    def decode_frames(self, indices: list[int]) -> torch.Tensor:
        return torch.from_numpy(self._decoder.get_batch(indices).asnumpy())


class TorchCodecReader(OtherDecoderReader):
    """torchcodec, https://github.com/meta-pytorch/torchcodec, in its exact mode on the CPU."""

    device = "cpu"
    diverges_on = OtherDecoderReader.diverges_on | {"avi", "open_gops"}

    @staticmethod
    def load() -> None:
        importlib.import_module("torchcodec.decoders")

    def open_decoder(self, path: str, num_threads: int) -> Any:
        from torchcodec.decoders import VideoDecoder

        return VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=num_threads, device=self.device)

    def count_frames(self) -> int:
        return len(self._decoder)

    def decode_frames(self, indices: list[int]) -> torch.Tensor:
        return self._decoder.get_frames_at(indices).data


class TorchCodecCudaReader(TorchCodecReader):
    """torchcodec in the video unit of this rank's GPU, which the environment names as SUITE_GPU.

    Frames are resized on the GPU and leave it as clips.
    """

    diverges_on = TorchCodecReader.diverges_on | {"not_420"}
    can_fork = False

    @property
    def device(self) -> str:
        return f"cuda:{os.environ.get('SUITE_GPU', 0)}"

    @staticmethod
    def load() -> None:
        TorchCodecReader.load()
        if not torch.cuda.is_available():
            raise RuntimeError("this machine has no usable GPU")


class OpenCVReader(OtherDecoderReader):
    """OpenCV's VideoCapture, seeking where that saves decoding."""

    diverges_on = OtherDecoderReader.diverges_on | {"av1", "uneven_times", "bt2020"}

    @staticmethod
    def load() -> None:
        importlib.import_module("cv2")

    def open_decoder(self, path: str, num_threads: int) -> Any:
        import cv2

        return cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, num_threads])

    def count_frames(self) -> int:
        import cv2

        return int(self._decoder.get(cv2.CAP_PROP_FRAME_COUNT))

    def decode_frames(self, indices: list[int]) -> torch.Tensor:
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
    """The reader class with this name. Raises ValueError for an unknown name or a library that cannot be loaded."""
    if name not in READERS:
        raise ValueError(f"no reader is called {name!r}{did_you_mean(name, READERS)} (choices: {', '.join(READERS)})")
    reader = READERS[name]
    if reader is not VideoReader:
        try:
            reader.load()
        except (ImportError, OSError, RuntimeError) as error:  # the library, or one it needs, is missing
            reason = str(error).strip().split("\n")[0]
            raise ValueError(f"reader {name} cannot be used here ({reason}); install it, or use pyav") from error
    return reader


def find_divergences(video: VideoReader) -> set[str]:
    """Which rows of the table above apply to a video."""
    index, facts = video.index, video.index.facts
    settings = facts["decoder"] or {}
    times = index.packet_times[settings.get("reorder_depth", 0) :]  # Matroska does not say when the first are decoded
    is_reordered = (np.diff(index.frame_starts[np.argsort(index.frame_packets)]) < 0).any()
    found = {
        "streams": video.num_streams > 1,
        "colors": not _has_common_colors(video),
        "not_420": video.pixel_format != "yuv420p",
        "bt2020": settings.get("colorspace") in BT2020,
        "interlaced": facts["interlaced"],
        "changes": facts["changes"],
        "container": video.container not in COMMON_CONTAINERS,
        "avi": video.container == "avi",
        "open_gops": is_reordered,
        "false_keyframes": facts["false_keyframes"],
        "times": (np.diff(times) <= 0).any(),
        "uneven_times": not _is_even(times),
        "hidden": len(index.frame_packets) != len(index.packet_sizes),
        "member": split_member(video.path) is not None,
        "turned": not index.orientation.is_upright,
        "av1": video.codec == "av1",
    }
    return {name for name, applies in found.items() if applies}


def _has_common_colors(video: VideoReader) -> bool:
    if video.pixel_format not in COMMON_FORMATS:
        return False
    is_subsampled = any(
        part.width < 2 or part.height < 2 for part in av.VideoFormat(video.pixel_format, 2, 2).components
    )
    return not (is_subsampled and (video.height % 2 or video.width % 2))


def _is_even(times: np.ndarray) -> bool:
    """Whether each time is within a quarter of a step of where it would be if all were evenly spaced."""
    if len(times) < 2:
        return True
    even, step = np.linspace(times[0], times[-1], len(times), retstep=True)
    return bool(np.abs(times - even).max() <= step / 4)
