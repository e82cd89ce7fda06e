"""Where the packets of a video come from, and the decoder that they are for: the demuxer, or the bytes of the file.

A file whose packets were once found to lie in it as they are needs neither to be opened by FFmpeg, which looks at
streams and decodes frames to find out what is inside, nor to be demuxed: its index tells where they are and how to make
the decoder. Opening takes up to a quarter of the time in which a clip is read, and demuxing costs as much Python as
decoding does.
"""

import io
from collections.abc import Iterator
from itertools import chain
from typing import Any

import av
from av.video.codeccontext import VideoCodecContext

from datasets.video.index import (
    VideoError,
    VideoIndex,
    open_bytes,
    open_video,
    read_packets,
    stamp,
    use_threads,
)

# Reading this many packets just to pass over them takes about as long as a seek.
NUM_PACKETS_PER_SEEK = 64
CHANGED = "the file does not match its index; was it changed?"


class DemuxedPackets:
    """Packets as FFmpeg's demuxer gives them. `codec` is their decoder."""

    def __init__(self, path: str, num_threads: int):
        self.container, self.stream = open_video(path, num_threads)
        self.codec = self.stream.codec_context
        self._path = path
        self._packets, self._next_packet = read_packets(self.container, self.stream), 0

    def close(self) -> None:
        self._packets = self.stream = None
        self.container.close()

    def read(self, index: VideoIndex, first: int, last: int) -> Iterator[tuple[int, av.Packet]]:
        """Yields the packets `first` to `last` with their numbers; ends early where the file does."""
        if not 0 <= first - self._next_packet <= NUM_PACKETS_PER_SEEK:
            self._seek(index, first)
        for packet in self._packets:
            number = self._next_packet
            if not index.matches(packet, number):
                raise VideoError(self._path, CHANGED)
            self._next_packet += 1
            if number >= first:
                yield number, packet
            if number == last:
                return

    def pass_over(self, index: VideoIndex) -> None:
        """Says that all packets have been read."""
        self._next_packet = len(index.packet_sizes)

    def _seek(self, index: VideoIndex, number: int) -> None:
        """Moves to a packet or to one before it: to the start of the file if it is unclear where the seek ended."""
        try:
            self.container.seek(int(index.packet_times[number]), stream=self.stream)
        except av.FFmpegError:  # nothing to seek by, as in a bare H.264 stream
            return self._reopen()
        packets = read_packets(self.container, self.stream)
        landed = next(packets, None)
        found = None if landed is None else index.find(landed)
        if found is None or found > number:
            return self._reopen()
        self._packets, self._next_packet = chain([landed], packets), found

    def _reopen(self) -> None:
        """Opens the file once more; its decoder stays."""
        self.container.close()
        self.container, self.stream = open_video(self._path)
        self._packets, self._next_packet = read_packets(self.container, self.stream), 0


class StoredPackets:
    """Packets read from where they lie in the file. `codec` is their decoder: the one given, or one made for them."""

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


def open_stored(
    path: str, index: VideoIndex, num_threads: int, codec: VideoCodecContext | None = None
) -> StoredPackets | None:
    """The packets of a file that is as it was when its index was made; None where they must be demuxed.

    `codec` is a decoder that is there already. Raises VideoError if the file cannot be opened.
    """
    if not index.is_stored:
        return None
    try:
        codec = codec or make_decoder(index.facts["decoder"], num_threads)
    except (AttributeError, ValueError):  # the index was made with another PyAV, whose decoders differ
        return None
    file, start = open_bytes(path)
    if list(stamp(file.fileno())) != index.facts["stamp"]:
        file.close()
        return None
    return StoredPackets(path, file, start, index, codec)


def make_decoder(settings: dict[str, Any], num_threads: int) -> VideoCodecContext:
    """A decoder like the one that had these settings, see `index.decoder_settings`."""
    settings = dict(settings)
    codec = av.CodecContext.create(settings.pop("name"), "r")
    extradata = settings.pop("extradata")
    if extradata:
        codec.extradata = bytes.fromhex(extradata)
    for name, value in settings.items():
        setattr(codec, name, value)
    use_threads(codec, num_threads)
    return codec
