"""Timelines, streams and overlays: windows find the joints of a joined video, in bounded memory."""

import contextlib
import csv
import http.server
import itertools
import json
import math
import re
import shutil
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from conftest import ROOT
from encode import encode_video, number_frames
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from datasets.synthetic.motion_shapes import draw_clip
from datasets.video import VideoReader
from inference import Prediction, Predictor
from inference.overlay import Labels, rewrite_video, write_overlay
from inference.timeline import Segment, find_segments, find_spans
from inference.timeline_plot import plot_timeline
from settings import SettingsError
from tools import predict, train
from tools.prediction.windows import check_rate

COLORS = {"down": (230, 20, 20), "grow": (20, 230, 20), "left": (20, 20, 230)}
PIECES = (("grow", 40), ("left", 27), ("down", 61), ("grow", 33))  # class and number of frames
JOINTS = np.cumsum([num_frames for _, num_frames in PIECES])[:-1] / 25
CLIP_SECONDS = 10 / 25  # four frames, three apart


class ColorNetwork(torch.nn.Module):
    """Tells the three colors apart, by the mean over the clip."""

    def __init__(self, class_names):
        super().__init__()
        self.rows = [class_names.index(name) for name in COLORS]
        self.num_classes = len(class_names)

    def forward(self, clips):  # [B, 3, T, S, S]
        logits = clips.new_full((len(clips), self.num_classes), -50.0)
        logits[:, self.rows] = clips.mean(dim=(2, 3, 4)) * 4
        return logits


@pytest.fixture
def predictor(brief_run):
    predictor = Predictor(brief_run, device="cpu", top=3)
    predictor.model = ColorNetwork(predictor.class_names)
    return predictor


def colored(pieces=PIECES, height=48, width=64):
    colors = [COLORS[name] for name, num_frames in pieces for _ in range(num_frames)]
    return np.broadcast_to(np.array(colors, np.uint8)[:, None, None], (len(colors), height, width, 3))


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    return encode_video(tmp_path_factory.mktemp("joined") / "joined.mp4", colored(), audio=True)


@contextlib.contextmanager
def served(folder: Path):
    """The address of a local server of the files in a folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_timeline_finds_the_joints(predictor, joined):
    windows = list(predictor.windows(joined))
    assert len(windows) == (161 - 10) // 5 + 1 and all(len(window.guesses) == 3 for window in windows)
    segments = find_segments(windows, duration=161 / 25)
    assert [segment.label for segment in segments] == [name for name, _ in PIECES]
    found = [segment.end for segment in segments[:-1]]
    assert np.abs(found - JOINTS).max() <= CLIP_SECONDS / 4 + 1e-6  # half a stride
    assert (segments[0].start, segments[-1].end) == (0, pytest.approx(161 / 25))
    assert list(predictor.windows(joined, done=7)) == windows[7:]
    wide = list(predictor.windows(joined, seconds=2, stride=1))
    assert [window.seconds for window in wide] == [pytest.approx((start, start + 2)) for start in range(5)]


def test_a_window_is_predicted_as_a_video_of_its_own(brief_run, motion_videos, tmp_path):
    predictor = Predictor(brief_run, device="cpu")
    path = sorted(motion_videos.glob("train/*/*.mp4"))[0]
    with VideoReader(path) as reader:
        frames, fps = reader.get_frames(range(reader.num_frames)), reader.fps
    one = next(predictor.windows(path, stride=100))
    (alone,) = predictor(frames[: round(one.seconds[1] * fps)])
    assert one.probabilities == alone.probabilities
    uneven = encode_video(tmp_path / "uneven.mkv", frames.numpy(), pts=[round(2.7 * i) for i in range(len(frames))])
    first = next(predictor.windows(uneven, seconds=1))  # its header says 25 frames per second
    assert first.seconds == (0, pytest.approx(1, abs=0.1))
    (whole,) = predictor.windows(path, seconds=100)
    assert whole.probabilities == next(predictor(path)).probabilities


def test_a_stream_from_a_server_gives_the_windows_of_the_file(predictor, tmp_path):
    encode_video(tmp_path / "live.ts", colored())
    file = list(predictor.windows(tmp_path / "live.ts"))
    with served(tmp_path) as address:
        stream = list(predictor(f"{address}/live.ts"))
        mixed = list(predictor([tmp_path / "live.ts", f"{address}/live.ts"]))
        with pytest.raises(Exception, match=r"gone\.ts: the stream cannot be opened: .*404"):
            next(predictor(f"{address}/gone.ts"))
    assert [(one.label, one.seconds) for one in stream] == [(one.label, one.seconds) for one in file]
    assert mixed[0].seconds is None and mixed[1:] == stream and stream[0].path == f"{address}/live.ts"


def test_a_live_stream_ends_with_its_newest_window(predictor, tmp_path):
    content = encode_video(tmp_path / "live.ts", colored()).read_bytes()
    server = socket.create_server(("127.0.0.1", 0))

    def send():
        connection, _ = server.accept()
        connection.sendall(content)
        connection.close()

    threading.Thread(target=send, daemon=True).start()
    windows = list(predictor(f"tcp://127.0.0.1:{server.getsockname()[1]}"))
    server.close()
    starts = [window.seconds[0] for window in windows]
    assert starts == sorted(starts) and 1 <= len(windows) <= 31
    assert windows[-1].label == "grow" and windows[-1].seconds == pytest.approx((150 / 25, 160 / 25))


def test_windows_need_a_length_and_a_network_for_clips(brief_run, joined, predictor):
    segments = Predictor(brief_run, ["data.sampling=segments"], device="cpu")
    with pytest.raises(SettingsError, match=r"data\.sampling=segments fixes no length for a window.*--window"):
        next(segments.windows(joined))
    assert len(list(segments.windows(joined, seconds=2))) == 5
    with pytest.raises(SettingsError, match="the stride is 0 seconds; it must be more than 0"):
        next(predictor.windows(joined, stride=0))


def test_spans_and_segments():
    def window(start, label, probability, failure=""):
        guesses = () if failure else ((label, probability),)
        return Prediction("a", guesses, failure, seconds=(start, start + 2.0))

    windows = [window(0, "a", 0.8), window(1, "a", 0.6), window(2, "b", 0.9), window(3, "", 0, "NaN")]
    assert find_spans(windows) == [(0, 1.5), (1.5, 2.5), (2.5, 3.5), (3.5, 5)]
    assert find_spans(windows, duration=5.7)[-1] == (3.5, 5.7)
    assert find_spans(windows, duration=60)[-1] == (3.5, 6)  # of a file that is cut off
    assert find_spans(windows[:1], duration=3.2) == [(0, 3.2)] and find_spans(windows[:1], duration=60) == [(0, 4)]
    assert find_spans(windows[:1]) == [(0, 2)] and find_spans([]) == find_segments([]) == []
    first, second, third = find_segments(windows)
    assert first == Segment(0, 2.5, "a", pytest.approx(0.7)) and second == Segment(2.5, 3.5, "b", 0.9)
    assert third[:3] == (3.5, 5, "") and math.isnan(third.probability)
    assert [segment.label for segment in find_segments(windows, above=0.7)] == ["a", "", "b", ""]


def test_pictures_of_timelines_with_few_and_many_classes(tmp_path):
    for count in (1, 3, 40):
        windows = [
            Prediction("a", ((f"class {n % count}", 0.9),) if n else (), "" if n else "NaN", seconds=(n, n + 2.0))
            for n in range(120)
        ]
        names = [f"class {n}" for n in range(count)]
        plot_timeline(windows, find_segments(windows), names, "$a$ 跑.mp4", tmp_path / f"{count}.png")
        assert Image.open(tmp_path / f"{count}.png").width == 1200


def alternating(class_names, num_windows):
    return [
        Prediction("a", ((class_names[n % len(class_names)], 0.9),), "", seconds=(n, n + 2.0))
        for n in range(num_windows)
    ]


def test_the_names_of_a_timeline_fit_and_have_the_numbers_of_their_classes(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: figures.append(figure))
    names = ["other", *(f"playing squash or racquetball {n}" for n in range(7)), "跑步", "跳跃"]
    windows = alternating(names[1:], 9)
    plot_timeline(windows, find_segments(windows), names, "a.mp4", tmp_path / "a.png")
    (figure,) = figures
    figure.draw_without_rendering()
    (legend,), strip = figure.legends, figure.axes[0]
    shown = {text.get_text() for text in legend.get_texts()}
    assert {"class 8", "class 9"} < shown and {text.get_text() for text in strip.texts} == {"class 8", "class 9"}
    assert legend.get_window_extent().x0 >= 0 and legend.get_window_extent().x1 <= figure.bbox.width


def test_short_segments_keep_the_colors_of_the_legend(tmp_path):
    names = ["a", "b", "c"]
    windows = alternating(names, 1680)
    plot_timeline(windows, find_segments(windows), names, "a.mp4", tmp_path / "a.png")
    strip = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))[60, 100:1100]
    assert len(np.unique(strip, axis=0)) == 3


@pytest.mark.parametrize(("height", "width"), [(640, 360), (64, 48), (360, 640)])
def test_the_names_of_an_overlay_fit_and_have_the_numbers_of_their_classes(monkeypatch, height, width):
    drawn = []

    def text(draw, place, words, font, **options):
        drawn.append((words, place[0] + font.getlength(words)))

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    names = ["other", "playing squash or racquetball, or any other game", "跑步"]
    window = Prediction("a", tuple((name, 0.3) for name in names), "", seconds=(0, 1))
    failed = Prediction("a", (), "the outputs of the network are NaN or infinite", seconds=(1, 2))
    for seconds in (0.2, 1.8):
        Labels([window, failed], names, 0.0).draw(np.zeros((height, width, 3), np.uint8), seconds)
    assert all(right <= width for _, right in drawn)
    if height > 64:
        assert drawn[2][0].endswith("%  class 2") and "%  playing squash" in drawn[1][0]


@pytest.mark.parametrize(("height", "width"), [(96, 128), (97, 129)])
def test_an_overlay_keeps_size_times_and_sound(predictor, tmp_path, height, width):
    times = [number + 10 * (number > 20) for number in range(40)]  # a pause
    path = encode_video(tmp_path / "a.mp4", colored((("grow", 40),), 96, 128), pts=times, audio=True)
    if height % 2:
        path = encode_video(tmp_path / "a.mkv", colored((("grow", 40),), height, width), pts=times, pix_fmt="yuv444p")
    windows = list(predictor.windows(path))
    write_overlay(path, windows, predictor.class_names, tmp_path / "labeled.mp4")
    with VideoReader(path) as before, VideoReader(tmp_path / "labeled.mp4") as after:
        assert (after.height, after.width, after.num_frames) == (height, width, 40)
        pictures, drawn = before.get_frames([0, 30]).int(), after.get_frames([0, 30]).int()
    assert (pictures - drawn)[:, : height // 2].abs().max() < 12  # coded twice
    assert (pictures - drawn)[:, -10:].abs().max() > 60
    with av.open(str(tmp_path / "labeled.mp4")) as labeled, av.open(str(path)) as source:
        frames = [[frame.time for frame in file.decode(video=0)] for file in (source, labeled)]
        assert np.diff(frames[1]) == pytest.approx(np.diff(frames[0]), abs=1e-3)
        assert bool(labeled.streams.audio) == (height == 96)
    if height == 96:
        sounds = []
        for name in (path, tmp_path / "labeled.mp4"):
            with av.open(str(name)) as file:
                sounds.append([bytes(packet) for packet in file.demux(audio=0) if packet.size and packet.pts >= 0])
        assert sounds[0] == sounds[1] and len(sounds[0]) > 10
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("rotation", [0, 90])
def test_a_drawn_video_keeps_its_proportions(tmp_path, rotation):
    options = {"x264-params": "sar=2/1"}
    source = encode_video(tmp_path / "a.mp4", number_frames(3, 48, 64), rotation=rotation, options=options)
    rewrite_video(source, tmp_path / "new/drawn.mp4", lambda frame, seconds: frame)
    with av.open(tmp_path / "new/drawn.mp4") as drawn:
        stream = drawn.streams.video[0]
        shown = stream.sample_aspect_ratio * stream.width / stream.height
        assert shown == pytest.approx(128 / 48 if rotation == 0 else 48 / 128)


def test_the_command_writes_tables_a_picture_and_the_overlay(brief_run, joined, tmp_path, capfd):
    arguments = ["--run-dir", brief_run, "--timeline", tmp_path / "whole", joined, "evaluation.clips_per_forward=2"]
    arguments = [str(argument) for argument in arguments]
    predict.main([*arguments, "--overlay", str(tmp_path / "labeled.mp4"), "--stride", "0.2", "--window", "0.4"])
    names = ("joined.windows.csv", "joined.segments.csv", "joined.png")
    whole = {name: (tmp_path / "whole" / name).read_bytes() for name in names}
    rows = list(csv.DictReader(whole["joined.windows.csv"].decode().splitlines()))
    assert len(rows) == 31 and (rows[1]["start"], rows[1]["end"]) == ("0.200", "0.600")
    segments = list(csv.DictReader(whole["joined.segments.csv"].decode().splitlines()))
    assert float(segments[-1]["end"]) == pytest.approx(6.44)
    assert all(one["end"] == two["start"] for one, two in itertools.pairwise(segments))
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == str(joined) and len(lines) == 1 + len(segments)
    assert re.fullmatch(r"  0:00:00\.0 - 0:00:0\d\.\d +\d+\.\d\d % \w+", lines[1])
    with VideoReader(tmp_path / "labeled.mp4") as reader:
        assert reader.num_frames == 161

    table = tmp_path / "whole/joined.windows.csv"  # interrupted in the middle of a row
    table.write_bytes(whole["joined.windows.csv"][:700])
    (tmp_path / "whole/joined.segments.csv").unlink()
    predict.main([*arguments, "--stride", "0.2", "--window", "0.4"])
    assert {name: (tmp_path / "whole" / name).read_bytes() for name in names} == whole


def test_a_video_that_cannot_be_read_does_not_stop_the_others(brief_run, joined, tmp_path, capfd):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(SystemExit) as end:
        predict.main(
            ["--run-dir", str(brief_run), "--timeline", str(tmp_path), str(tmp_path / "broken.mp4"), str(joined)]
        )
    assert end.value.code == 1
    assert "broken.mp4: cannot be opened as a video" in capfd.readouterr().out
    assert (tmp_path / "joined.png").exists() and not (tmp_path / "broken.windows.csv").exists()


def test_uneven_windows_are_announced_and_equal_names_numbered(brief_run, joined, tmp_path, capfd):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(joined, tmp_path / folder / "clip.mp4")
    run = ["--run-dir", str(brief_run), "--timeline", str(tmp_path / "timelines")]
    predict.main([*run, str(tmp_path / "a/clip.mp4"), str(tmp_path / "b/clip.mp4")])
    assert {"clip.png", "clip_2.png"} <= {path.name for path in (tmp_path / "timelines").iterdir()}
    assert "its frame rate varies" not in capfd.readouterr().err
    # The table of the second has other options, which is known before the first is read.
    with pytest.raises(SettingsError, match=r"clip\.windows\.csv was written with other settings \(window"):
        predict.main([*run, "--window", "1", str(joined), str(tmp_path / "a/clip.mp4")])
    assert not (tmp_path / "timelines/joined.windows.csv").exists()
    # 25 frames a second for four seconds, then one a second, as a screen recording.
    times = [*range(100), *range(100, 1100, 25)]
    screen = encode_video(tmp_path / "screen.mp4", colored((("grow", len(times)),)), pts=times)
    predict.main([*run, "--window", "2", str(screen)])
    warning = r"screen\.mp4: its frame rate varies, .* they last \d+\.\d to \d+\.\d s, and the last \d+\.\d s"
    assert re.search(warning, capfd.readouterr().err)


@pytest.mark.parametrize(
    ("ends", "duration", "message"),
    [
        ((1.2, 2.4), 2.5, ""),
        ((1.2,), 9.0, "a.mp4: the last 7.8 of 9.0 s are in no window: they have too few frames for one"),
        (
            (1.2, 4.4),
            4.5,
            "a.mp4: its frame rate varies, and windows have equal numbers of frames: they last 1.2 to 3.2 s",
        ),
    ],
)
def test_warnings_of_windows_say_what_is_uneven(caplog, ends, duration, message):
    spans = itertools.pairwise([0.0, *ends])
    check_rate("a.mp4", [Prediction("a.mp4", (("b", 0.9),), "", seconds=span) for span in spans], duration)
    assert caplog.text.count("a.mp4") == bool(message) and message in caplog.text


READING_AN_HOUR = """
import ctypes, importlib.util, json, sys
from pathlib import Path
from inference import Prediction, Predictor
from inference.timeline import find_segments

def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

sys.path.insert(0, "test")
spec = importlib.util.spec_from_file_location("windows", "test/inference/test_windows.py")
spec.loader.exec_module(tests := importlib.util.module_from_spec(spec))
predictor = Predictor(sys.argv[1], device="cpu", top=3)
predictor.model = tests.ColorNetwork(predictor.class_names)
windows, after_a_minute = [], 0
for window in predictor.windows(sys.argv[2], seconds=4, stride=2):
    windows.append(Prediction(window.path, window.guesses, seconds=window.seconds))
    if len(windows) % 50 == 0:
        ctypes.CDLL(None).malloc_trim(0)  # as the process's own thread does, which goes by the clock
    after_a_minute = after_a_minute or (memory() if window.seconds[1] > 60 else 0)
ends = [segment.end for segment in find_segments(windows, duration=3600)]
print(json.dumps([memory() - after_a_minute, ends]))
"""


@pytest.mark.slow
@pytest.mark.needs("proc")
def test_an_hour_takes_no_more_memory_than_a_minute(brief_run, tmp_path):
    """In a process of its own, for the heap of one that ran other tests is in pieces."""

    def frames():
        for number in range(90_000):
            yield np.full((32, 32, 3), COLORS["grow" if number // 9000 % 2 else "left"], np.uint8)

    path = tmp_path / "hour.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for frame in frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    command = [sys.executable, "-c", READING_AN_HOUR, str(brief_run), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600)
    growth, ends = json.loads(done.stdout)
    assert growth < 48 * 2**20  # 80 to 100 MiB if kept memory were never handed back
    assert ends == pytest.approx(range(360, 3601, 360), abs=1)


@pytest.mark.weekly
def test_a_trained_network_finds_the_joints_of_known_motions(tmp_path):
    """The demo's network on six motions joined into one video: every joint within a clip of it."""
    train.main(["-c", str(ROOT / "configs/demo/glore_motion.yaml"), f"run.dir={tmp_path / 'run'}", "run.device=cpu"])
    pieces = (("left", 100), ("turn_clockwise", 75), ("up", 120), ("shrink", 90), ("right", 130), ("down", 100))
    clips = [draw_clip(name, np.random.default_rng((7, n)), num_frames=count) for n, (name, count) in enumerate(pieces)]
    path = encode_video(tmp_path / "joined.mp4", np.concatenate(clips), options={"crf": "20"})
    segments = find_segments(Predictor(tmp_path / "run", device="cpu").windows(path), duration=615 / 25)
    assert [segment.label for segment in segments] == [name for name, _ in pieces]
    joints = np.cumsum([count for _, count in pieces])[:-1] / 25
    assert np.abs(np.array([segment.end for segment in segments[:-1]]) - joints).max() < 29 / 25
