"""Streams give the frames that readers give, in order and once, and say what is wrong with a source."""

import contextlib
import itertools
import socket
import threading
import time

import numpy as np
import pytest
from encode import encode_video, number_frames, read_numbers

from datasets.video import VideoError, VideoReader
from datasets.video.stream import VideoStream, is_stream, newest, rate_and_length


@pytest.mark.parametrize("options", [{}, {"rotation": 90}, {"codec": "mpeg4", "b_frames": 2}])
def test_frames_are_those_of_a_reader(tmp_path, options):
    path = encode_video(tmp_path / "a.mp4", number_frames(30), **options)
    with VideoReader(path) as reader, VideoStream(str(path), 2) as stream:
        frames = [(frame.number, frame.seconds, stream.to_rgb(frame).copy()) for frame in stream]
        assert np.array_equal(np.stack([pixels for *_, pixels in frames]), reader.get_frames(range(30)).numpy())
    assert [number for number, *_ in frames] == list(range(30))
    assert [seconds for _, seconds, _ in frames] == pytest.approx([number / 25 for number in range(30)])
    assert stream.fps == 25 and stream.duration_seconds == pytest.approx(1.2) and not stream.is_live


def test_times_come_from_the_file_unless_they_go_back(tmp_path):
    path = encode_video(tmp_path / "a.mp4", number_frames(6), pts=[5, 6, 7, 17, 18, 19])
    with VideoStream(str(path)) as stream:
        assert [frame.seconds for frame in stream] == pytest.approx([0, 0.04, 0.08, 0.48, 0.52, 0.56])


def test_rate_and_length_are_those_of_the_frames(tmp_path):
    late = encode_video(tmp_path / "late.mkv", number_frames(40), pts=[125 + number for number in range(40)])
    assert rate_and_length(str(late)) == pytest.approx((25, 1.6))
    slow = encode_video(tmp_path / "slow.mkv", number_frames(20), pts=[0, 1, *range(20, 200, 10)])
    with VideoReader(slow) as reader:
        assert rate_and_length(str(slow)) == (reader.fps, reader.duration_seconds)
        assert reader.fps < 5
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"none")
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        rate_and_length(str(broken))
    with pytest.raises(VideoError, match="windows need the times of a video file, which frames in a folder lack"):
        rate_and_length(str(tmp_path))


@pytest.mark.parametrize(("start", "length"), [(1000, 43), (60_000, 6)])
def test_pauses_do_not_slow_the_rate(tmp_path, start, length):
    """Nor does a clock that leaps count: half an hour is more than a pause."""
    path = encode_video(tmp_path / "a.mkv", number_frames(150), pts=[*range(75), *range(start, start + 75)])
    fps, seconds = rate_and_length(str(path))
    assert fps == pytest.approx(25, rel=0.02) and seconds == pytest.approx(length, abs=0.1)
    with VideoStream(str(path)) as stream:
        *_, last = stream
    assert last.seconds == pytest.approx(length, abs=0.1)


def test_a_damaged_end_ends_the_stream(tmp_path):
    path = encode_video(tmp_path / "a.ts", number_frames(40), gop=10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    with VideoStream(str(path)) as stream:
        numbers = read_numbers([stream.to_rgb(frame).copy() for frame in stream])
    assert 10 <= len(numbers) < 40 and numbers[:10] == list(range(10))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone.mp4", "gone.mp4: No such file or directory"),
        ("rtsp://localhost:1/x", "rtsp://localhost:1/x: the stream cannot be opened: Connection refused"),
        ("nonsense://x", "nonsense://x: the stream cannot be opened: Protocol not found"),
        ("/dev/video99", "/dev/video99: the stream cannot be opened: "),
    ],
)
def test_a_source_that_cannot_be_opened_is_named(source, message):
    with pytest.raises(VideoError) as error:
        VideoStream(source)
    assert str(error.value).startswith(message)


def test_addresses_and_cameras_are_streams():
    assert all(map(is_stream, ("rtsp://a/b", "http://a/b.ts", "udp://@:1234", "/dev/video0")))
    assert not any(map(is_stream, ("a.mp4", "/dev/videos/a.mp4", "C:\\a.mp4", "http", 3)))


def test_newest_drops_what_comes_too_fast():
    asked, made = threading.Event(), threading.Event()

    def items():
        yield 0
        asked.wait(10)
        yield from (1, 2, 3)
        made.set()

    taken = newest(items())
    assert next(taken) == 0
    asked.set()
    made.wait(10)
    assert list(taken) == [3]


def test_newest_passes_errors_on_and_stops_when_nobody_asks():
    def fails():
        yield 1
        raise VideoError("a", "gone")

    with pytest.raises(VideoError, match="gone"):
        list(newest(fails()))
    seen = []
    taken = newest(seen.append(number) or number for number in itertools.count())
    next(taken)
    taken.close()
    threading.Event().wait(0.2)
    count = len(seen)
    threading.Event().wait(0.05)
    assert len(seen) == count


@contextlib.contextmanager
def stalling_server(content):
    """The address of a server that sends `content` and then neither sends more nor ends."""
    done = threading.Event()

    def send(connection):
        with contextlib.suppress(OSError), connection:
            connection.sendall(content)
            done.wait(60)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=send, args=server.accept()[:1], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        done.set()


def test_a_live_stream_is_closed_while_a_thread_reads_it(tmp_path, monkeypatch):
    """Without care this ends the process: FFmpeg frees what the thread is decoding, or waiting for."""
    monkeypatch.setattr("datasets.video.stream.CLOSING_SECONDS", 0.1)
    content = encode_video(tmp_path / "live.ts", number_frames(600), gop=5).read_bytes()
    with stalling_server(content) as address:
        for pause in (0, 0, 0, 0, 1.0):  # the last one waits for more
            with VideoStream(address, 2) as live:
                taken = newest(iter(live))
                next(taken)
                time.sleep(pause)
                taken.close()
                start = time.monotonic()
            assert time.monotonic() - start < 1
