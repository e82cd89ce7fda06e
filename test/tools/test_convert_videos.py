"""The script that converts videos: what it writes, what it skips, and what it reports."""

import csv
import os
import time

import pytest
from encode import encode_video, number_frames, read_numbers

from datasets.video import VideoReader
from settings import SettingsError
from tools import convert_videos
from tools.convert_videos import main
from tools.preparation import conversion


@pytest.fixture
def source(tmp_path):
    for name in ("a b/-1.mp4", "a b/2.avi", "c/it's [3].mkv"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        options = {"codec": "mpeg4"} if name.endswith("avi") else {}
        encode_video(tmp_path / "in" / name, number_frames(12, 60, 80), **options)
    return tmp_path / "in"


TARGETS = ["a b/-1.mp4", "a b/2.mp4", "c/it's [3].mp4"]


def run(*arguments):
    """-> exit status"""
    try:
        main([*map(str, arguments), "--workers", "2"])
        return 0
    except SystemExit as error:
        return error.code


def found(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def report(folder, name="conversion_failures.csv"):
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return {os.path.basename(row["path"]): (row["what"], row["reason"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("program", [[], ["--pyav"]])
def test_tree_is_mirrored(source, tmp_path, program):
    out = tmp_path / "out"
    assert run(source, out, *program) == 0 and found(out) == TARGETS
    for name in TARGETS:
        with VideoReader(out / name) as video:
            assert read_numbers(video.get_frames(range(12))) == list(range(12)) and video.codec == "mpeg4"


def test_again_after_an_interruption(source, tmp_path, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "out"
    run(source, out, "--pyav")
    times = {name: (out / name).stat().st_mtime_ns for name in TARGETS}
    cut, old = out / TARGETS[0], out / TARGETS[1]
    cut.write_bytes(cut.read_bytes()[:-100])
    os.utime(old, (0, 0))
    (out / "a b" / ".-1.mp4.partial").write_text("left behind by a killed process")
    assert run(source, out, "--pyav") == 0
    assert "2 converted (0 of them damaged), 1 done before, 0 failed" in caplog.text
    assert found(out) == TARGETS
    assert [(out / name).stat().st_mtime_ns != times[name] for name in TARGETS] == [True, True, False]
    assert run(source, out, "--pyav", "--recipe", "short160") == 0
    assert "3 converted" in caplog.text  # with another recipe


def test_a_smaller_size_is_another_recipe(source, tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    out = tmp_path / "out"
    for _ in range(2):
        assert run(source, out, "--pyav", "--short-side", "32") == 0
    assert "recipe training, short side at most 32" in caplog.text and "3 done before" in caplog.text
    with VideoReader(out / TARGETS[0]) as video:
        assert (video.height, video.width) == (32, 42)
        assert read_numbers(video.get_frames(range(12))) == list(range(12))
    assert run(source, out, "--pyav") == 0 and "3 converted (0 of them damaged), 0 done before" in caplog.messages[-1]
    assert run(source, out, "--short-side", "8") == 2
    assert "got --short-side 8; expected at least 16 pixels" in capsys.readouterr().err


def test_failures_are_listed_and_tried_again(source, tmp_path):
    out = tmp_path / "out"
    good = (source / "a b/2.avi").read_bytes()
    (source / "a b/2.avi").write_bytes(b"")
    os.mkfifo(source / "c" / "pipe.mp4")
    damaged = source / "c" / "damaged.mp4"
    encode_video(damaged, number_frames(40, 96, 128), gop=10)
    with VideoReader(damaged) as video:
        start, size = int(video.index.packet_positions[25]), int(video.index.packet_sizes[25])
    data = bytearray(damaged.read_bytes())
    data[start : start + size] = b"\xff" * size
    damaged.write_bytes(data)
    assert run(source, out) == 1
    rows = report(out)
    assert rows.keys() == {"2.avi", "pipe.mp4", "damaged.mp4"} and rows["damaged.mp4"][0] == "damaged"
    assert rows["2.avi"] == ("failed", "is empty (0 bytes)")
    assert rows["pipe.mp4"] == ("failed", "is not a regular file")
    assert found(out) == ["a b/-1.mp4", "c/damaged.mp4", "c/it's [3].mp4", "conversion_failures.csv"]
    (source / "a b/2.avi").write_bytes(good)
    (source / "c/pipe.mp4").unlink()
    assert run(source, out) == 0
    assert report(out) == {"damaged.mp4": rows["damaged.mp4"]}  # reported again, though converted before
    damaged.unlink()
    assert run(source, out) == 0 and not (out / "conversion_failures.csv").exists()


def test_a_report_that_is_none_is_left_alone(source, tmp_path):
    (tmp_path / "out").mkdir()
    report = tmp_path / "out/conversion_failures.csv"
    for text in ("some notes\n", f'damaged,"{"a" * 131_073}",x\n'):
        report.write_text(text)
        with pytest.raises(SettingsError, match=r"conversion_failures\.csv is not a report of this script .*; move it"):
            run(source, tmp_path / "out", "--pyav")
        assert report.read_text() == text


def test_a_run_that_is_killed_has_reported_its_damage(source, tmp_path, monkeypatch):
    original, calls = conversion.convert, []

    def convert(job, recipe, ffmpeg):
        return original(job, recipe, ffmpeg) or "1 of 9 frames cannot be decoded"

    def run_some(function, jobs, *_):
        for job in list(jobs)[:2]:
            calls.append(job.source)
            yield job, function(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(conversion, "convert", convert)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(conversion, "run_each", run_some)
        run(source, tmp_path / "out", "--pyav")
    names = {os.path.basename(name) for name in calls}
    assert report(tmp_path / "out").keys() == names
    monkeypatch.setattr(conversion, "convert", original)
    assert run(source, tmp_path / "out", "--pyav") == 0 and report(tmp_path / "out").keys() == names


def test_what_another_command_reports_meanwhile_is_kept(source, tmp_path, monkeypatch):
    assert run(source, tmp_path / "out", "--pyav") == 0
    (job, *_) = conversion.find_jobs(source, tmp_path / "out")

    def run_each(function, jobs, *_):
        conversion._append(tmp_path / "out/conversion_failures.csv", (conversion.DAMAGED, job.source, "as it says"))
        yield from ((job, function(job)) for job in jobs)

    monkeypatch.setattr(conversion, "run_each", run_each)
    assert run(source, tmp_path / "out", "--pyav") == 0
    assert report(tmp_path / "out") == {os.path.basename(job.source): (conversion.DAMAGED, "as it says")}


@pytest.mark.slow
def test_a_video_that_hangs_is_a_failure(source, tmp_path, monkeypatch):
    original = conversion.convert

    def convert(job, recipe, ffmpeg):
        if os.path.basename(job.source) == "-1.mp4":
            os.makedirs(os.path.dirname(job.target), exist_ok=True)
            with open(conversion.partial_path(job.target), "w") as file:
                file.write("begun")
            time.sleep(60)
        return original(job, recipe, ffmpeg)

    monkeypatch.setattr(conversion, "convert", convert)
    assert run(source, tmp_path / "out", "--pyav", "--timeout", "5") == 1
    assert report(tmp_path / "out") == {"-1.mp4": ("failed", "took longer than 5 s")}
    assert found(tmp_path / "out") == [*TARGETS[1:], "conversion_failures.csv"]


def test_parts(source, tmp_path, capsys):
    out = tmp_path / "out"
    (source / "a b/2.avi").write_bytes(b"")
    assert run(source, out, "--pyav", "--part", "1/2") == 0
    assert found(out) == [TARGETS[0], TARGETS[2]]
    assert run(source, out, "--pyav", "--part", "2/2") == 1
    assert report(out, "conversion_failures.2-of-2.csv").keys() == {"2.avi"}
    for part in ("3/2", "0/2", "2"):
        assert run(source, out, "--part", part) == 2
    assert "expected 1/2 to 2/2" in capsys.readouterr().err


def test_impossible_arguments(source, tmp_path):
    with pytest.raises(SettingsError, match="one is inside the other"):
        main([str(source), str(source / "out")])
    with pytest.raises(SettingsError, match="no folder of videos at"):
        main([str(tmp_path / "inn"), str(tmp_path / "out")])
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="file"):
        main([str(source), str(tmp_path / "file")])


def test_the_script_offers_every_recipe():
    assert set(convert_videos.RECIPES) == set(conversion.RECIPES)
