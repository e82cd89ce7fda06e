"""Provides a video's packets and their decoder: through FFmpeg's demuxer, or directly from the file's bytes.

To find out what is in a file, FFmpeg probes its streams and decodes some frames. If the index has the location of each
packet's data and the decoder's settings, neither that nor a demuxer is needed. Opening takes up to a quarter of the
time of reading a clip, and demuxing costs as much Python as decoding.
"""

import io
import math
from collections.abc import Iterator
from itertools import chain

import av
from av.video.codeccontext import VideoCodecContext

from datasets.video.container import VideoError, make_decoder, open_bytes, open_container, read_packets, stamp
from datasets.video.index import VideoIndex

# Reading and dropping this many packets takes about as long as a seek.
NUM_PACKETS_PER_SEEK = 64
CHANGED = "the file does not match its index; was it changed?"


class DemuxedPackets:
    """Packets from FFmpeg's demuxer. `codec` is their decoder; `num_threads`, `is_strict`: see `set_up_decoder`."""

    def __init__(self, path: str, num_threads: int, is_strict: bool = True):
        self.container, self.stream = open_container(path, num_threads, is_strict)
        self.codec = self.stream.codec_context
        self._path, self._can_seek = path, True
        self._start_reading()

    def close(self) -> None:
        self._packets = self.stream = None
        self.container.close()

    def read(self, index: VideoIndex, first: int, last: int) -> Iterator[tuple[int, av.Packet]]:
        """Yields the packets `first` to `last` with their numbers; ends early if the file does."""
        if not 0 <= first - self._next_packet <= (NUM_PACKETS_PER_SEEK if self._can_seek else math.inf):
            self._seek(index, first)
        for packet in self._packets:
            number = self._next_packet
            if not index.matches(packet, number):
                break
            self._next_packet += 1
            if number >= first:
                yield number, packet
            if number == last:
                return
        else:
            return
        if not self._has_sought:
            raise VideoError(self._path, CHANGED)
        # After a seek, some demuxers return other packets (ASF). From the start they return what the index has.
        self._can_seek = False
        self._reopen()
        yield from self.read(index, max(first, number), last)

    def mark_all_read(self, index: VideoIndex) -> None:
        """Records that the container is at the end of the file."""
        self._next_packet = len(index.packet_sizes)

    def _seek(self, index: VideoIndex, number: int) -> None:
        """Moves to a packet or an earlier one; to the start of the file if it is unclear where the seek ended."""
        if not self._can_seek:
            return self._reopen()
        try:
            self.container.seek(int(index.packet_times[number]), stream=self.stream)
        except av.FFmpegError:  # no way to seek, as in a bare H.264 stream
            return self._reopen()
        packets = read_packets(self.container, self.stream)
        landed = next(packets, None)
        found = None if landed is None else index.find(landed)
        if found is None or found > number:
            return self._reopen()
        self._packets, self._next_packet, self._has_sought = chain([landed], packets), found, True

    def _reopen(self) -> None:
        """Reopens the file, keeping the decoder."""
        self.container.close()
        self.container, self.stream = open_container(self._path)
        self._start_reading()

    def _start_reading(self) -> None:
        self._packets, self._next_packet, self._has_sought = read_packets(self.container, self.stream), 0, False


class DirectPackets:
    """Packets read directly from the file's bytes. `codec` is their decoder."""

    def __init__(self, path: str, file: io.BufferedReader, start: int, index: VideoIndex, codec: VideoCodecContext):
        self.codec = codec
        self._path, self._file = path, file
        self._starts, self._sizes = index.packet_positions + index.data_offsets + start, index.packet_sizes

    def close(self) -> None:
        self._file.close()

    def read(self, index: VideoIndex, first: int, last: int) -> Iterator[tuple[int, av.Packet]]:
        """Yields the packets `first` to `last` with their numbers."""
        part = slice(first, last + 1)
        places = zip(self._starts[part].tolist(), self._sizes[part].tolist(), strict=True)
        for number, (start, size) in enumerate(places, first):
            packet = av.Packet(size)
            try:
                self._file.seek(start)
                num_read = self._file.readinto(packet)
            except OSError as error:
                raise VideoError(self._path, error.strerror) from error
            if num_read != size:
                raise VideoError(self._path, CHANGED)
            yield number, packet


def open_direct(
    path: str, index: VideoIndex, num_threads: int, codec: VideoCodecContext | None = None
) -> DirectPackets | None:
    """The packets of a file that has not changed since it was indexed; None if they must be demuxed.

    `codec`: a decoder to use; None makes one. Raises VideoError if the file cannot be opened.
    """
    if not index.is_direct:
        return None
    try:
        codec = codec or make_decoder(index.facts["decoder"], num_threads)
    except (AttributeError, ValueError):  # the index is from a PyAV version with other decoders
        return None
    file, start = open_bytes(path)
    if list(stamp(file.fileno())) != index.facts["stamp"]:
        file.close()
        return None
    return DirectPackets(path, file, start, index, codec)
