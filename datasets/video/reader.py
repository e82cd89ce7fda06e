"""Reads chosen frames of a video file: exactly, in every container, and decoding no more than necessary.

PyAV decodes (its wheel includes FFmpeg); `index.py` locates the frames in the file, and `packets.py` reads them. The
reader is fast because of what it skips: it seeks to the right keyframe, sends the packets from there to the last wanted
one, lets the decoder skip frames that are neither wanted nor referenced, and converts only wanted frames, once per
view. If the index has what it needs, it does all this without opening the file as a video.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain

import av
import numpy as np
import torch

from datasets.video.container import VideoError, decode_packet
from datasets.video.frame_reader import ClipRequest, FrameReader
from datasets.video.index import VideoIndex, scan_video
from datasets.video.packets import DemuxedPackets, open_direct
from datasets.video.resize import View, resize_fast
from datasets.video.rgb import UprightRgb
from datasets.video.scaling import ViewScaler
from datasets.video.skippable_frames import find_skippable

__all__ = ["VideoError", "VideoReader"]


class VideoReader(FrameReader):
    """Random access to the frames of a video file.

        with VideoReader("clip.mp4") as video:
            clip = video.get_frames(range(0, 64, 8))  # uint8 [8, H, W, 3]

    Frame i is the i-th frame when the file is decoded from its start. Frames are RGB, in their stored size, rotated or
    mirrored as the file says.

    In a damaged file, a frame whose packet is present but cannot be decoded keeps its number: `num_frames` counts it,
    asking for it raises VideoError, and all other frames keep the numbers that they have in the intact file.

    Open a reader in the process that uses it (decoders do not survive a fork) and close it. Ask for all wanted frames
    of a file in one call, so that it is decoded in one pass: a reader keeps no frames between calls.

    Args:
        path: a local file, or `shard.tar#member` for one inside a tar file.
        index: the `index` of an earlier reader of the same file, which saves reading all its packets again.
        num_threads: threads of the decoder. One is best if readers run in parallel, as in dataloader workers.

    Attributes:
        num_frames: number of frames, counted by packets, not taken from the header.
        fps: average frames per second; the frame rate may vary.
        duration_seconds: from the start of the first frame to the end of the last.
        height, width: of the upright frames, in pixels.
        rotation, is_mirrored: how stored frames are turned upright; see `Orientation`.
        codec, container, pixel_format: FFmpeg's names, such as "h264", "matroska,webm" and "yuv420p".
        num_streams: video streams in the file; the first that is not a still image is read.
          index: where the frames are in the file; small and picklable, to keep for the next reader.

    Raises VideoError, with path and reason, if the file is missing, is not a video or has no decodable frame.
    """

    def __init__(self, path, *, index: VideoIndex | None = None, num_threads: int = 1):
        self.path = str(path)
        self._num_threads = num_threads
        self._packets = open_direct(self.path, index, num_threads) if index else None
        if self._packets is None:
            self._packets = DemuxedPackets(self.path, num_threads)
        self.index = index or self._scan()

        facts = self.index.facts
        self.num_frames = len(self.index.frame_packets)
        self.duration_seconds = float(self.index.duration)
        self.fps = float(self.num_frames / self.index.duration)
        self._orientation = self.index.orientation
        self.rotation, self.is_mirrored = self._orientation
        self.codec, self.container, self.pixel_format = facts["codec"], facts["container"], facts["pixel_format"]
        self.num_streams = facts["num_streams"]
        self._stored_size = facts["height"], facts["width"]
        self._to_rgb = UprightRgb(*self._stored_size, self._orientation)
        self.height, self.width = self._to_rgb.height, self._to_rgb.width

    def close(self):
        """Closes the file. The attributes stay available."""
        if self._packets is not None:
            self._packets.close()
        self._packets = None

    def get_frames(self, indices: Iterable[int]) -> torch.Tensor:
        """Frames by their numbers, in any order and with repeats -> uint8 [T, H, W, 3].

        Raises IndexError for a number outside 0 ... num_frames - 1, and VideoError if a frame cannot be decoded.
        """
        self._check_open()
        indices = self.check_indices(indices)
        clip = np.empty((len(indices), self.height, self.width, 3), dtype=np.uint8)

        def take(i: int, frame: av.VideoFrame) -> None:
            clip[[place for place, index in enumerate(indices) if index == i]] = self._to_rgb(frame)

        self._read_frames(indices, take)
        return torch.from_numpy(clip)

    def get_clips(self, requests: Iterable[ClipRequest]) -> list[torch.Tensor]:
        """Several clips in one pass -> uint8 [3, T, view.num_rows, view.num_columns] each.

        Frames are cropped and scaled before conversion to RGB (see `scaling.py`); frames of more than 8 bits are
        converted first and resized by `resize_fast`. Errors as in `get_frames`.
        """
        self._check_open()
        requests = [(self.check_indices(indices), view) for indices, view in requests]
        clips = [np.empty((3, len(indices), view.num_rows, view.num_columns), np.uint8) for indices, view in requests]
        scalers: dict[View, ViewScaler] = {}

        def take(i: int, frame: av.VideoFrame) -> None:
            taken: dict[View, np.ndarray] = {}  # views of this frame; clips with the same view share it
            for (indices, view), clip in zip(requests, clips, strict=True):
                for place in [place for place, index in enumerate(indices) if index == i]:
                    if view in taken:
                        clip[:, place] = taken[view]
                    else:
                        taken[view] = clip[:, place]
                        self._write_view(frame, view, scalers, taken[view])

        self._read_frames([i for indices, _ in requests for i in indices], take)
        return [torch.from_numpy(clip) for clip in clips]

    def _check_open(self) -> None:
        if self._packets is None:
            raise ValueError(f"{self.path}: the reader is closed; open a new one to read frames")

    def _read_frames(self, indices: Iterable[int], take: Callable[[int, av.VideoFrame], None]) -> None:
        """Decodes each frame once and calls `take(its number, frame)`, in packet order.

        Raises VideoError if a frame cannot be decoded, after taking the others.
        """
        numbers = {int(self.index.frame_packets[i]): i for i in indices}  # packet number -> frame number
        runs = defaultdict(set)  # packet number of a keyframe -> wanted packets that are decoded from there
        for packet, i in numbers.items():
            runs[int(self.index.frame_starts[i])].add(packet)
        for start, wanted in sorted(runs.items()):
            self._decode(start, wanted, lambda frame: self._take(frame, numbers, take))
        if numbers:  # the file is damaged, or a keyframe was not a clean start: decoding from the start decides
            self._decode_plainly(set(numbers), lambda frame: self._take(frame, numbers, take))
        if numbers:
            raise VideoError(self.path, f"frame {min(numbers.values())} of {self.num_frames} cannot be decoded")

    def _take(self, frame: av.VideoFrame, numbers: dict[int, int], take: Callable[[int, av.VideoFrame], None]) -> None:
        try:
            take(numbers.pop(frame.pts), frame)
        except (av.FFmpegError, OSError) as error:
            reason = f"cannot be converted from {frame.format.name} to RGB: {error.strerror}"
            raise VideoError(self.path, f"a frame {reason}") from error

    def _decode(self, start: int, wanted: set[int], take: Callable[[av.VideoFrame], None]) -> None:
        """Decodes from packet `start` to the last wanted one, taking the frame of each wanted packet.

        Ends early at a damaged packet: the frames after it may refer to it.
        """
        codec = self._packets.codec
        codec.flush_buffers()
        # Frame threads look ahead, so a skip meant for one packet would hit another.
        can_skip = self.index.facts["marks"] and codec.thread_count == 1
        skipped, unsent = set(), set()
        if can_skip:
            skipped, unsent = find_skippable(self.index.facts["marks"], self.index.frame_packets, start, wanted)
        leading = self.index.leading_packets(start)
        missing = set(wanted)
        for number, packet in chain(self._packets.read(self.index, start, max(wanted)), [(None, None)]):
            if number in unsent:
                continue
            if can_skip:
                codec.skip_frame = "NONREF" if number in skipped else "DEFAULT"
            frames = decode_packet(codec, packet, number)
            if frames is None and number not in leading:
                return
            for frame in frames or []:
                if frame.is_corrupt and frame.pts not in leading:
                    return
                if frame.pts in missing and not frame.is_corrupt:
                    missing.remove(frame.pts)
                    take(frame)
            if not missing:
                return

    def _decode_plainly(self, wanted: set[int], take: Callable[[av.VideoFrame], None]) -> None:
        """Like `_decode`, but from the start, without skipping, and accepting the decoder's output for damaged packets.

        That output may show what an earlier frame left in a decoder buffer. So all frames are decoded each time, by one
        thread, and none is kept: which buffers are free then never depends on the wanted frames.
        """
        packets = DemuxedPackets(self.path, 1, is_strict=False)
        missing = set(wanted)
        try:
            for number, packet in chain(packets.read(self.index, 0, max(wanted)), [(None, None)]):
                for frame in decode_packet(packets.codec, packet, number) or []:
                    if frame.pts in missing:
                        missing.remove(frame.pts)
                        take(frame)
                if not missing:
                    return
        finally:
            packets.close()

    def _scan(self) -> VideoIndex:
        """Makes the index, and keeps open the best source of packets from here on."""
        demuxed = self._packets
        try:
            index = scan_video(self.path, demuxed.container, demuxed.stream)
            direct = open_direct(self.path, index, self._num_threads, demuxed.codec)
            if direct is None:
                demuxed.mark_all_read(index)
            else:
                self._packets = direct
                demuxed.close()
            return index
        except BaseException:
            self.close()
            raise

    def _write_view(self, frame: av.VideoFrame, view: View, scalers: dict[View, ViewScaler], out: np.ndarray) -> None:
        """Writes a view of a frame into `out`, uint8 [3, rows, columns]; `scalers` has those made so far."""
        has_bytes = frame.format.components[0].bits == 8  # with more bits, FFmpeg's scaling changes colors
        if not has_bytes or (frame.height, frame.width) != self._stored_size:
            rgb = torch.from_numpy(self._to_rgb(frame)[None])
            out[:] = resize_fast(rgb, view)[:, 0].numpy()
            return
        if view not in scalers or not scalers[view].fits(frame):
            scalers[view] = ViewScaler(frame, self._orientation.stored_view(view))
        scalers[view](frame, self._orientation.turn_back(out, axes=(1, 2)))
