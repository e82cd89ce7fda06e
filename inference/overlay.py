"""Draws predictions on a video at the time they apply to: labels of windows, or anything on each frame."""

import bisect
import logging
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from datasets.video.container import open_file, read_packets
from datasets.video.stream import VideoStream
from evaluators.confusion_plot import plot_font, plot_names, shorten
from inference.prediction import Prediction
from inference.timeline import find_spans
from settings import SettingsError

log = logging.getLogger(__name__)

TICKS = 90_000  # per second: frames keep their times, whatever the source's clock
NUM_BARS = 3
MAX_NAME = 100  # characters of a class name
BAR, EMPTY, SHADE = (255, 190, 60), (255, 255, 255, 70), (0, 0, 0, 150)
SMPTE170M = 6
"""FFmpeg's number for the color space that RGB is converted to by default."""


def write_overlay(
    source: str | Path,
    windows: Sequence[Prediction],
    class_names: Sequence[str],
    target: Path,
    above: float = 0.0,
) -> None:
    """Writes the video `source` as an MP4 file with the best guesses of the `windows` drawn on each frame.

    Each window labels the time around its middle; see `find_spans`. See `rewrite_video` for the rest.

    Args:
        windows: from `Predictor.windows` on the same file.
        class_names: all classes of the network.
        above: guesses below this probability are not drawn.
    """
    rewrite_video(source, target, Labels(windows, class_names, above).draw)


def rewrite_video(source: str | Path, target: Path, draw: Callable[[np.ndarray, float], np.ndarray]) -> None:
    """Writes the video `source` as an MP4 file with `draw` applied to each frame.

    Frame times and sound are kept; the sound is dropped, with a warning, if MP4 cannot hold it. Frames are upright.

    Args:
        draw: (frame, uint8 [H, W, 3]; its time in seconds) -> the frame to write, of one size for all.

    Raises VideoError if the source cannot be read, and SettingsError if the target cannot be written.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with VideoStream(str(source)) as stream, av.open(str(partial), "w", format="mp4") as output:
            _write(stream, output, draw)
        partial.replace(target)
    except (av.FFmpegError, OSError) as error:
        raise SettingsError(f"cannot write {target}: {error.strerror}; choose another file") from error
    finally:
        partial.unlink(missing_ok=True)


def _write(stream: VideoStream, output, draw: Callable[[np.ndarray, float], np.ndarray]) -> None:
    encoder = sound = None
    for frame in stream:
        pixels = draw(stream.to_rgb(frame), frame.seconds)
        if encoder is None:
            encoder = _add_encoder(output, stream.fps, *pixels.shape[:2])
            if (pixel_aspect := stream.pixel_aspect(frame)) is not None:
                encoder.codec_context.sample_aspect_ratio = pixel_aspect
            sound = Sound(stream.path, output, stream.start_seconds)
        drawn = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        drawn.pts, drawn.time_base = round(frame.seconds * TICKS), Fraction(1, TICKS)
        output.mux(encoder.encode(drawn))
        sound.copy_until(frame.seconds)
    if encoder is not None:
        output.mux(encoder.encode(None))
        sound.copy_until(math.inf)


def _add_encoder(output, fps: float, height: int, width: int):
    """H.264 of the size of the frames; without chroma subsampling if that is odd."""
    stream = output.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "20"})
    stream.width, stream.height = width, height
    stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
    stream.codec_context.time_base = Fraction(1, TICKS)
    stream.codec_context.colorspace = SMPTE170M
    return stream


class Sound:
    """The first sound track of a file, copied packet by packet into `output`, in sync with its frames.

    `start_seconds`: the source's time of the first frame, which becomes 0.
    """

    def __init__(self, path: str, output, start_seconds: float):
        self._output, self._start = output, start_seconds
        self._source = open_file(path)
        self._track = self._next = None
        for track in self._source.streams.audio[:1]:
            if track.codec_context is None or track.codec_context.name not in output.supported_codecs:
                name = "unknown" if track.codec_context is None else track.codec_context.name
                log.warning("%s: its sound (%s) is left out, because an MP4 file cannot hold it", path, name)
                continue
            self._track = output.add_stream_from_template(track)
            self._packets = read_packets(self._source, track)
            self._next = next(self._packets, None)

    def copy_until(self, seconds: float) -> None:
        """Copies the sound before `seconds`, and closes the source after its last packet."""
        while self._next is not None:
            packet = self._next
            start = round(self._start / packet.time_base)
            if packet.pts is not None and (packet.pts - start) * packet.time_base >= seconds:
                return
            if packet.pts is not None and packet.pts >= start:  # not before the first frame
                packet.pts -= start
                packet.dts = packet.pts
                packet.stream = self._track
                self._output.mux(packet)
            self._next = next(self._packets, None)
        self._source.close()


class Labels:
    """Draws the guesses of the window that covers a time: names, probabilities and bars."""

    def __init__(self, windows: Sequence[Prediction], class_names: Sequence[str], above: float):
        self._windows, self._above = windows, above
        self._names = dict(zip(class_names, plot_names(class_names, MAX_NAME), strict=True))
        self._ends = [end for _, end in find_spans(windows)]
        self._panels: tuple[int, Image.Image | None] = (-1, None)  # the last one drawn, and its window

    def draw(self, pixels: np.ndarray, seconds: float) -> np.ndarray:
        """A frame, uint8 [H, W, 3], with the labels of its time."""
        if not self._windows:
            return pixels
        number = min(bisect.bisect_right(self._ends, seconds), len(self._windows) - 1)
        if self._panels[0] != number:
            self._panels = number, self._panel(self._windows[number], *pixels.shape[:2])
        panel = self._panels[1]
        picture = Image.fromarray(pixels)
        picture.paste(panel, (0, picture.height - panel.height), panel)
        return np.asarray(picture)

    def _panel(self, window: Prediction, height: int, width: int) -> Image.Image:
        """The lines at the bottom of a frame of height x width pixels, on a dark background."""
        guesses = [guess for guess in window.guesses[:NUM_BARS] if guess[1] >= self._above]
        line = max(9, round(min(height, width) / 18))
        num_lines = max(1, min(len(guesses), (height // 2) // line))
        font = plot_font(0.72 * line)
        panel = Image.new("RGBA", (width, num_lines * line + line // 3), SHADE)
        draw = ImageDraw.Draw(panel, "RGBA")
        margin, top = line // 3, line // 6
        if not guesses:
            text = shorten(window.failure or "not sure", font, width - 2 * margin)
            draw.text((margin, top), text, fill="white", font=font)
        bar_width = width // 4
        text_left = 2 * margin + bar_width
        for n, (name, probability) in enumerate(guesses[:num_lines]):
            y = top + n * line
            box = (margin, y + line // 5, margin + bar_width, y + line - line // 5)
            draw.rectangle(box, fill=EMPTY)
            draw.rectangle((*box[:2], margin + round(bar_width * probability), box[3]), fill=BAR)
            text = shorten(f"{100 * probability:3.0f} %  {self._names[name]}", font, width - text_left - margin)
            draw.text((text_left, y), text, fill="white", font=font)
        return panel
