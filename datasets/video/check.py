"""Finds faults in a video, by its packets alone or by decoding every frame.

One quick pass over the packets, without decoding, shows whether a file can be opened, has a video stream and is
complete. Damage inside a file shows only when it is decoded. Of a folder of frames, the first frame is decoded or all.
"""

import os
import re
from typing import Any, NamedTuple

import av
import numpy as np

from datasets.file_list import FileError
from datasets.find_files import why_unopened
from datasets.video.container import Stamp, VideoError, decode_packet, open_container, read_packets, video_stamp
from datasets.video.frame_folder import FrameFolderReader
from datasets.video.index import VideoIndex, scan_video

# Containers whose header states how long the video is; for others FFmpeg estimates it.
STATED_DURATION = {"matroska,webm", "flv"}
TOLERANCE = 0.1, 1.0  # how much earlier than stated a video may end: a fraction of it, and seconds; the larger counts


class CheckResult(NamedTuple):
    """The result of checking a video."""

    path: str
    stamp: Stamp | None  # of the file that was checked; None: it does not exist
    facts: dict[str, Any]  # codec, width, height, frames, fps, seconds, keyframes, bytes, full, fault: what is known
    index: VideoIndex | None


def check_video(path: str, full: bool) -> CheckResult:
    """Checks whatever a list names; `full`: decodes all of it. The fact `fault` says what is wrong, "" if nothing.

    Never raises.
    """
    try:
        found = video_stamp(path)
    except FileError as error:
        return CheckResult(path, None, {"fault": error.reason}, None)
    except OSError as error:
        return CheckResult(path, None, {"fault": why_unopened(path, error)}, None)
    facts: dict[str, Any] = {"bytes": found[0], "full": full}
    index = None
    try:
        if os.path.isdir(path):
            _check_frames(path, full, facts)
        else:
            container, stream = open_container(path)
            with container:
                codec = stream.codec_context
                facts |= {"codec": codec.codec.canonical_name, "width": codec.width, "height": codec.height}
                index = scan_video(path, container, stream)
                facts |= {
                    "frames": len(index.frame_packets),
                    "fps": round(float(len(index.frame_packets) / index.duration), 4),
                    "seconds": round(float(index.duration), 4),
                    "keyframes": len(np.unique(index.frame_starts)),
                }
                fault = _find_missing_end(container, stream, index)
            facts["fault"] = fault or (_find_damage(path, index) if full else "")
    except VideoError as error:
        facts["fault"] = error.reason
    except Exception as error:  # whatever happens with one file, the others are still checked
        facts["fault"] = f"cannot be checked: {type(error).__name__}: {error}"
    return CheckResult(path, found, facts, index)


def _check_frames(path: str, full: bool, facts: dict[str, Any]) -> None:
    """Adds the facts of a folder of frames. Raises VideoError for the first frame that cannot be read."""
    with FrameFolderReader(path) as frames:
        facts |= {"width": frames.width, "height": frames.height, "frames": frames.num_frames}
        for number in range(frames.num_frames if full else 0):
            frames.get_frames([number])
    facts["fault"] = ""


def _find_missing_end(container, stream, index: VideoIndex) -> str:
    """What is missing at the end, according to the file's own header."""
    num_packets = len(index.packet_sizes)
    if stream.frames > num_packets:
        return f"ends early: {num_packets} of the {stream.frames} frames that its header states"
    stated, found = _stated_seconds(container, stream), float(index.duration)
    if stated - found > max(TOLERANCE[0] * stated, TOLERANCE[1]):
        return f"ends early: {found:.1f} of the {stated:.1f} seconds that its header states"
    return ""


def _stated_seconds(container, stream) -> float:
    """How long the video is by a header that truncation does not change; 0 if there is none."""
    if container.format.name not in STATED_DURATION:
        return 0.0
    if len(container.streams) > 1:  # its own length, as Matroska's muxers write it; the longest may be another stream's
        match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
        end = 0.0 if match is None else 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])
        start = float((stream.start_time or 0) * stream.time_base)
    else:
        end, start = (container.duration or 0) / av.time_base, (container.start_time or 0) / av.time_base
    return end - max(0.0, start)  # Matroska states when the video ends, and it need not begin at 0


def _find_damage(path: str, index: VideoIndex) -> str:
    """Decodes the file from start to end: which frames are missing, and the decoder's complaints."""
    order = index.frame_packets.tolist()
    missing = set(order)
    container, stream = open_container(path)
    level, skips_repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # it would compare with messages of other files
    try:
        with container, av.logging.Capture() as complaints:
            for number, packet in enumerate([*read_packets(container, stream), None]):
                for frame in decode_packet(stream.codec_context, packet, number) or []:
                    if not frame.is_corrupt:
                        missing.discard(frame.pts)
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips_repeated)
    if missing:
        first = next(place for place, packet in enumerate(order) if packet in missing)
        return f"{len(missing)} of {len(order)} frames are damaged or cannot be decoded, the first is frame {first}"
    return f"damaged: {complaints[0][2].strip()}" if complaints else ""
