"""Opens video files with FFmpeg: the container, its packets and its decoder; explains faults in a file.

A video is a regular file or a member of a tar file (see `shards.py`), so it may start in the middle of a file.
"""

import io
import os
import stat
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.stream import Discard, Disposition
from av.video.codeccontext import VideoCodecContext

from datasets.file_list import FileError
from datasets.find_files import why_unopened
from datasets.video.shards import find_member, split_member

# Containers that store a presentation time with each packet, by FFmpeg's names for them.
TIMED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv", "mpegts"}
# Codecs of still images, which a file may contain besides its sound or video.
PICTURE_CODECS = {"mjpeg", "png", "bmp", "gif", "tiff", "webp", "jpeg2000", "jpegxl"}
# Codecs that several threads decode like one. Theora, for example, then gives other frames after a seek.
THREADED_CODECS = {"h264", "hevc", "vp9", "av1", "mpeg4"}
# What the container tells the decoder about a stream, besides the codec's name and the stream's headers.
DECODER_SETTINGS = (
    "width",
    "height",
    "pix_fmt",
    "codec_tag",
    "reorder_depth",
    "field_order",
    "color_range",
    "color_primaries",
    "color_trc",
    "colorspace",
)
BUFFER_SIZE = 1 << 16  # bytes read from a file at once

Stamp = tuple[int, int]
"""Size in bytes and modification time in nanoseconds, which show whether a file has changed."""


class VideoError(FileError):
    """A video that cannot be read."""


def open_container(path, num_threads: int = 1, is_strict: bool = False):
    """Opens a file -> (container, its first video stream that is not a still image). The caller closes the container.

    A still image beside other streams is the cover of a song or film. Raises VideoError if there is nothing to decode.
    `num_threads`, `is_strict`: see `set_up_decoder`.
    """
    container = open_file(path)
    number = _find_stream(container)
    if number is None:
        kinds = ", ".join(_kind(stream) for stream in container.streams) or "none"
        container.close()
        raise VideoError(path, f"no video stream that can be decoded (its streams: {kinds})")
    if any(_may_be_still(stream) for stream in container.streams.video[: number + 1]):
        container.close()  # packets were read to find out
        container = open_file(path)
    stream = container.streams.video[number]
    for other in container.streams:  # so that the demuxer skips them
        other.discard = Discard.default if other is stream else Discard.all
    set_up_decoder(stream.codec_context, num_threads, is_strict)
    return container, stream


def open_file(path):
    """Opens a file, with all its streams. Raises VideoError if it cannot. The caller closes it."""
    file, start, end = file_range(path)
    url = f"file:{file}"  # "file:" keeps a colon in the name from being read as a protocol
    if end is not None:
        url = f"subfile,,start,{start},end,{end},,:{url}"
    try:
        # The whitelist keeps a playlist posing as a video from accessing the network.
        options = {"protocol_whitelist": "file,subfile"}
        return av.open(url, container_options=options, metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, f"cannot be opened as a video: {error.strerror}") from error


def _find_stream(container) -> int | None:
    """Which video stream is the video; None if there is none."""
    for number, stream in enumerate(container.streams.video):
        if stream.codec_context is not None and stream.codec_context.width and not _is_still(container, stream):
            return number
    return None


def _is_still(container, stream) -> bool:
    return _is_attached(stream) or (_may_be_still(stream) and len(list(islice(read_packets(container, stream), 2))) < 2)


def _may_be_still(stream) -> bool:
    """Whether only packets can tell a still image from a video: Matroska stores covers as video."""
    codec = stream.codec_context
    return (
        codec is not None
        and codec.codec.canonical_name in PICTURE_CODECS
        and len(stream.container.streams) > 1
        and stream.frames < 2
        and not _is_attached(stream)
    )


def _is_attached(stream) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _kind(stream) -> str:
    is_picture = stream.type == "video" and (_is_attached(stream) or _may_be_still(stream))
    return "still picture" if is_picture else stream.type


def set_up_decoder(codec: VideoCodecContext, num_threads: int, is_strict: bool) -> None:
    """Configures a decoder that has not decoded anything yet.

    Args:
        codec: the decoder.
        num_threads: for codecs that several threads decode like one; others are decoded by one thread.
          is_strict: give up on a damaged frame, instead of completing it from whatever is in the decoder's buffers.
    """
    num_threads = num_threads if codec.codec.canonical_name in THREADED_CODECS else 1
    codec.thread_count = num_threads
    if num_threads > 1:
        codec.thread_type = "AUTO"
    if is_strict:
        codec.options = {"err_detect": "explode"}


def read_packets(container, stream):
    """Yields a stream's packets from the container's position to the end, or as far as the file can be read."""
    try:
        for packet in container.demux(stream):
            if packet.size:  # an empty packet would tell the decoder that the stream ends here
                yield packet
    except av.FFmpegError:
        return


def packet_position(packet: av.Packet) -> int:
    """The packet's byte offset in the file, -1 if the container does not provide it."""
    return -1 if packet.pos is None else packet.pos


def decode_packet(codec, packet, number: int | None = None) -> list[av.VideoFrame] | None:
    """Sends a packet (None: end of stream) to the decoder -> the frames that are ready; None if it cannot be decoded.

    Decoders pass a packet's time on to its frame, so a number stored there identifies the packet of a frame.
    """
    if packet is not None:
        packet.pts = packet.dts = number
    try:
        return codec.decode(packet)
    except av.FFmpegError:
        return None if packet else []


def decoder_settings(codec: VideoCodecContext) -> dict[str, Any] | None:
    """The settings of a decoder that has not decoded anything yet, for `make_decoder`; None if they are unknown."""
    try:
        settings = {name: getattr(codec, name) for name in DECODER_SETTINGS}
    except UnicodeDecodeError:  # a four-byte tag that is not text
        return None
    settings = {name: value for name, value in settings.items() if value is not None}
    return {"name": codec.codec.name, "extradata": (codec.extradata or b"").hex(), **settings}


def make_decoder(settings: dict[str, Any], num_threads: int) -> VideoCodecContext:
    """A new decoder from `decoder_settings`; strict, see `set_up_decoder`."""
    settings = dict(settings)
    codec = av.CodecContext.create(settings.pop("name"), "r")
    extradata = settings.pop("extradata")
    if extradata:
        codec.extradata = bytes.fromhex(extradata)
    for name, value in settings.items():
        setattr(codec, name, value)
    set_up_decoder(codec, num_threads, is_strict=True)
    return codec


def file_range(path) -> tuple[str, int, int | None]:
    """The regular file that contains a video, and the video's first byte and end in it; end None: the whole file.

    Raises VideoError if there is no such file.
    """
    member = split_member(path)
    file = os.fspath(path) if member is None else member[0]
    try:
        status = os.stat(file)
    except (OSError, ValueError) as error:  # a NUL character is a ValueError
        raise VideoError(path, why_unopened(file, error)) from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(path, "is a directory")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait forever
        raise VideoError(path, "is not a regular file")
    if status.st_size == 0:
        raise VideoError(path, "is empty (0 bytes)")
    if member is None:
        return file, 0, None
    try:
        return file, *find_member(*member)
    except FileError as error:
        raise VideoError(path, error.reason) from error


def open_bytes(path) -> tuple[io.BufferedReader, int]:
    """Opens the file that has a video in it -> (file, the video's first byte). Raises VideoError like `file_range`."""
    file, start, _ = file_range(path)
    try:
        return open(file, "rb", buffering=BUFFER_SIZE), start
    except OSError as error:
        raise VideoError(path, f"cannot be opened as a video: {error.strerror}") from error


def stamp(file: str | Path | int) -> Stamp:
    """The stamp of a file, given by path or descriptor; raises OSError if there is no such file."""
    status = os.stat(file)
    return status.st_size, status.st_mtime_ns


def video_stamp(path: str | Path) -> Stamp:
    """The stamp of whatever a list of videos names. Raises OSError or FileError if there is no such file.

    A member of a tar file has its own size and the tar file's time; a folder of frames has the size of all its files
    and the time of its latest change.
    """
    if member := split_member(path):
        start, end = find_member(*member)
        return end - start, stamp(member[0])[1]
    status = os.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size, status.st_mtime_ns
    files = [stamp(file) for file in Path(path).iterdir() if file.is_file()]
    return sum(size for size, _ in files), max([status.st_mtime_ns, *(time for _, time in files)])
