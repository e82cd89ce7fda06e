"""Converted videos have the frames of their sources, in the recipe's size and form, with either program."""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from encode import encode_video, number_frames, read_numbers
from torch.nn.functional import adaptive_avg_pool2d

from datasets.find_files import SYSTEM_NAMES
from datasets.video import VideoError, VideoReader
from datasets.video.convert import Job, convert, find_ffmpeg, find_jobs, is_done, partial_path
from datasets.video.lists import VIDEOS
from datasets.video.recipes import RECIPES
from datasets.video.reencode import command, read_source

FFMPEG = find_ffmpeg(RECIPES["training"])
PROGRAMS = [
    pytest.param(None, id="PyAV"),
    pytest.param(FFMPEG, id="ffmpeg", marks=pytest.mark.needs("ffmpeg")),
]
SCRIPT = Path(__file__).parents[3] / "tools" / "convert_videos.sh"
AWKWARD = ["-i.mp4", 'it\'s [1] "quoted".avi', "a:b %03d $HOME;ls.mp4", "two\nlines é.mkv"]


def number_video(path, num_frames=40, height=96, width=128, **options):
    return encode_video(path, number_frames(num_frames, height, width), **options)


SOURCES = {
    "h264.mp4": {"fps": Fraction(30000, 1001)},
    "b_frames.avi": {"codec": "mpeg4", "b_frames": 2},
    "ten_bit.mkv": {"pix_fmt": "yuv420p10le"},
    "stream.ts": {"audio": True},
    "vp9.webm": {"codec": "libvpx-vp9"},
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for name, options in SOURCES.items():
        number_video(folder / name, **options)
    return folder


@pytest.mark.parametrize("ffmpeg", PROGRAMS)
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("recipe", ["training", "short160"])
def test_frames_stay_as_they_are(sources, tmp_path, recipe, name, ffmpeg):
    source = sources / name
    job = Job(str(source), str(tmp_path / "new" / "folder" / "out.mp4"))
    assert convert(job, RECIPES[recipe], ffmpeg) == ""
    assert os.listdir(tmp_path / "new/folder") == ["out.mp4"]  # nothing else is left there
    with VideoReader(job.target) as video, VideoReader(source) as original:
        assert read_numbers(video.get_frames(range(video.num_frames))) == list(range(40))
        assert video.fps == pytest.approx(original.fps, rel=0.01)
        assert video.codec == "mpeg4"
    assert is_done(job, RECIPES[recipe]) and not is_done(job, RECIPES["short256"])


@pytest.mark.parametrize("ffmpeg", PROGRAMS)
@pytest.mark.parametrize(
    ("recipe", "height", "width", "rotation", "expected"),
    [
        ("short160", 200, 400, 0, (160, 320)),
        ("short160", 400, 200, 0, (320, 160)),
        ("short160", 160, 240, 0, (160, 240)),
        ("short160", 100, 240, 0, (100, 240)),  # never enlarged
        ("short160", 200, 400, 90, (320, 160)),  # as a player shows it
        ("training", 270, 362, 270, (344, 256)),
        ("training", 512, 514, 180, (256, 256)),  # even
    ],
)
def test_sizes(tmp_path, recipe, height, width, rotation, expected, ffmpeg):
    source = number_video(tmp_path / "a.mp4", 3, height, width, rotation=rotation)
    job = Job(str(source), str(tmp_path / "out.mp4"))
    convert(job, RECIPES[recipe], ffmpeg)
    with VideoReader(job.target) as video, VideoReader(source) as original:
        assert (video.height, video.width, video.rotation) == (*expected, 0)
        coarse, expected = (adaptive_avg_pool2d(reader.get_frames([2]).movedim(-1, 1).float(), 5)
                            for reader in (video, original))  # fmt: skip
        assert (coarse - expected).abs().mean() < 4  # the same picture, the same way up


@pytest.mark.parametrize("ffmpeg", PROGRAMS)
@pytest.mark.parametrize("rotation", [0, 90])
def test_the_picture_keeps_its_proportions(tmp_path, rotation, ffmpeg):
    """Pixels twice as wide as high, as in old camcorders' files: a player shows 120 x 162 pixels as 120 x 324."""
    options = {"x264-params": "sar=2/1"}
    source = number_video(tmp_path / "a.mp4", 3, 120, 162, rotation=rotation, options=options)
    job = Job(str(source), str(tmp_path / "out.mp4"))
    convert(job, RECIPES["training"]._replace(short_side=100), ffmpeg)
    with av.open(job.target) as target:
        stream = target.streams.video[0]
        shown = stream.sample_aspect_ratio * stream.width / stream.height
        assert shown == pytest.approx(324 / 120 if rotation == 0 else 120 / 324, rel=0.01)


@pytest.mark.parametrize("ffmpeg", PROGRAMS)
def test_training_recipe_needs_little_decoding(tmp_path, ffmpeg):
    source = number_video(tmp_path / "a.mp4", 60, gop=60)
    job = Job(str(source), str(tmp_path / "out.mp4"))
    convert(job, RECIPES["training"], ffmpeg)
    with VideoReader(job.target) as video:
        starts = np.unique(video.index.frame_starts)
        assert np.diff([*starts, 60]).max() <= int(RECIPES["training"].options["g"])
        assert video.index.frame_packets.tolist() == list(range(60))  # no B-frames
    assert Path(job.target).read_bytes().index(b"moov") < 100  # the table of frames comes first


@pytest.mark.parametrize("ffmpeg", PROGRAMS)
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names(tmp_path, name, ffmpeg, monkeypatch):
    number_video(tmp_path / "plain.mkv", 5).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    job = Job(name, str(Path("out", name).with_suffix(".mp4")))
    convert(job, RECIPES["training"], ffmpeg)
    with VideoReader(job.target) as video:
        assert video.num_frames == 5


@pytest.mark.parametrize("ffmpeg", PROGRAMS)
def test_broken_sources(tmp_path, ffmpeg):
    sound = encode_video(tmp_path / "sound.mp4", None, audio=True)
    cut = number_video(tmp_path / "cut.mp4")
    cut.write_bytes(cut.read_bytes()[:2000])
    (tmp_path / "empty.mp4").touch()
    expected = {"gone": "No such file", "empty": "is empty", "cut": "cannot be opened", sound.stem: "no video stream"}
    for name, reason in expected.items():
        with pytest.raises(VideoError, match=reason):
            convert(Job(str(tmp_path / f"{name}.mp4"), str(tmp_path / "out" / "a.mp4")), RECIPES["training"], ffmpeg)
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("ffmpeg", PROGRAMS)
def test_damage_is_reported(tmp_path, ffmpeg):
    source = number_video(tmp_path / "a.mp4", 60, gop=10)
    data = bytearray(source.read_bytes())
    with VideoReader(source) as video:
        start, size = int(video.index.packet_positions[25]), int(video.index.packet_sizes[25])
    data[start : start + size] = b"\xff" * size
    source.write_bytes(data)
    assert convert(Job(str(source), str(tmp_path / "out.mp4")), RECIPES["short160"], ffmpeg)


def test_which_jobs_are_done(tmp_path):
    (tmp_path / "in").mkdir()
    source = number_video(tmp_path / "in" / "a.mp4")
    recipe = RECIPES["training"]
    (job,) = find_jobs(tmp_path / "in", tmp_path / "out")
    assert job == Job(str(source), str(tmp_path / "out/a.mp4")) and not is_done(job, recipe)
    convert(job, recipe, None)
    assert is_done(job, recipe)
    whole = Path(job.target).read_bytes()
    for end in range(0, len(whole), len(whole) // 10):
        Path(job.target).write_bytes(whole[:end])
        assert not is_done(job, recipe)
    Path(job.target).write_bytes(whole)
    assert is_done(job, recipe)
    os.utime(job.target, (0, 0))
    assert not is_done(job, recipe)  # the source is newer
    source.unlink()
    assert not is_done(job, recipe)


def test_impossible_jobs(tmp_path):
    (tmp_path / "in" / "clip").mkdir(parents=True)
    for number in (1, 2):
        (tmp_path / "in" / "clip" / f"img_{number}.jpg").touch()  # frames are not converted
    with pytest.raises(ValueError, match="no videos in it; expected files that end in"):
        find_jobs(tmp_path / "in", tmp_path / "out")
    for name in ("a.avi", "a.mp4"):
        (tmp_path / "in" / name).touch()
    with pytest.raises(ValueError, match=r"a.avi and .*a.mp4 would both become .*out/a.mp4; rename one"):
        find_jobs(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ValueError, match="one is inside the other"):
        find_jobs(tmp_path / "in", tmp_path / "in" / "small")
    with pytest.raises(ValueError, match="one is inside the other"):
        find_jobs(tmp_path / "in", tmp_path)


def test_recipes_as_their_authors_write_them():
    """The parts of the authors' command that define the output."""
    recipe = RECIPES["short288"]
    assert recipe.filter.startswith(r"scale=min(iw\,(288*iw)/min(iw\,ih)):-1")
    assert recipe.codec == "mpeg4" and recipe.options == {"b": "640k"}


@pytest.mark.skipif(os.name == "nt", reason="programs are scripts here")
def test_which_program(tmp_path, monkeypatch):
    def make_program(path, codecs):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\ncase $3 in {codecs}) echo Encoder ${{3#encoder=}} [words]: ;; esac\n")
        path.chmod(0o755)
        return str(path)

    recipe = RECIPES["training"]
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)  # so that the fake module is removed after the test
    monkeypatch.delitem(sys.modules, "imageio_ffmpeg")
    wheel = make_program(tmp_path / "wheel" / "ffmpeg", "encoder=mpeg4")
    (tmp_path / "wheel" / "imageio_ffmpeg.py").write_text(f"def get_ffmpeg_exe():\n    return {wheel!r}\n")
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        assert find_ffmpeg(recipe) is None
    monkeypatch.syspath_prepend(str(tmp_path / "wheel"))
    assert find_ffmpeg(recipe) == wheel
    system = make_program(tmp_path / "bin" / "ffmpeg", "encoder=h264")
    assert find_ffmpeg(recipe) == wheel  # the system's lacks this codec
    make_program(Path(system), "encoder=mpeg4")
    assert find_ffmpeg(recipe) == system


# ---- the shell version

needs_bash = pytest.mark.skipif(not shutil.which("bash") or not shutil.which("xargs"), reason="no bash")
RECORDER = """#!/usr/bin/env bash
printf '%s\\0' "$@" >>"$RECORD"
printf '\\n\\0' >>"$RECORD"
target="${@: -1}"
case $target in
    *broken*) exit 1 ;;
    *nothing*) echo frame=0 ;;
    *dropped*) printf 'frame=   9\\ndup_frames=0\\ndrop_frames=2\\n' ;;
    *damaged*) printf 'frame=   9\\nbad block\\ndrop_frames=0\\n' ;;
    *) printf 'frame=9\\ndup_frames=0\\ndrop_frames=0\\n' ;;
esac
printf '%s\\n' "$@" >"${target#file:}"
"""
PROBE = """#!/usr/bin/env bash
case "${@: -1}" in
    *cover*) printf '0,mjpeg,90000/1\\n1,h264,30/1\\n' ;;
    *slide*) printf '2,mjpeg,0/0\\n' ;;
    *) printf '0,h264,30000/1001,\\n' ;;
esac
"""


def run_script(tmp_path, *arguments, stdin=b""):
    """Runs the script with an ffmpeg that records its arguments -> (the process, the arguments of each call)."""
    tools = tmp_path / "bin"
    tools.mkdir(exist_ok=True)
    for name, script in (("ffmpeg", RECORDER), ("ffprobe", PROBE)):
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    record = tmp_path / "record"
    record.write_bytes(b"")
    env = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "RECORD": str(record), "JOBS": "1"}
    done = subprocess.run(["bash", SCRIPT, *map(str, arguments)], env=env, input=stdin, capture_output=True, timeout=60)
    calls = [call.split("\0")[:-1] for call in os.fsdecode(record.read_bytes()).split("\n\0")[:-1]]
    return done, calls


@needs_bash
@pytest.mark.parametrize("recipe", RECIPES)
def test_script_gives_the_same_command(tmp_path, recipe):
    source, destination = tmp_path / "-in", tmp_path / "out"
    for name in [*AWKWARD, "deep/er/a.mp4", ".hidden.mp4", "notes.txt"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("x")
    done, calls = run_script(tmp_path, recipe, source, destination)
    assert done.returncode == 0, done.stderr
    jobs = find_jobs(source, destination)
    assert sorted(call[-1] for call in calls) == sorted(f"file:{partial_path(job.target)}" for job in jobs)
    ours = command("", read_source(number_video(tmp_path / "a.mp4", 1), RECIPES[recipe]), RECIPES[recipe])
    ours[ours.index("-filter:v") + 1] = RECIPES[recipe].filter
    encoding = ours[ours.index("-c:v") : ours.index("-f")]
    for call in calls:
        assert call[call.index("-c:v") : call.index("-movflags")] == encoding
        assert call[call.index("-movflags") + 1] == RECIPES[recipe].muxer["movflags"]
        assert call[call.index("-r") + 1] == "30000/1001" and call[call.index("-map") + 1] == "0:0"
    assert run_script(tmp_path, recipe, source, destination)[1] == []  # all is done
    Path(jobs[1].target).write_bytes(b"made by another recipe, or an older release")
    os.utime(jobs[0].target, (0, 0))
    assert len(run_script(tmp_path, recipe, source, destination)[1]) == 2


@needs_bash
def test_script_checks_what_ffmpeg_did(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("broken", "nothing", "dropped", "damaged", "cover", "slide"):
        (tmp_path / "in" / f"{name}.mp4").write_text("x")
    done, calls = run_script(tmp_path, "training", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 1
    failures = (tmp_path / "out" / "conversion_failures.1-of-1.txt").read_text().split()
    assert sorted(Path(path).stem for path in failures) == ["broken", "dropped", "nothing"]
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.mp4")) == ["cover", "damaged", "slide"]
    assert "damaged.mp4: bad block" in (tmp_path / "out" / "conversion_damaged.1-of-1.txt").read_text()
    chosen = {Path(call[-1]).name: (call[call.index("-map") + 1], call[call.index("-r") + 1]) for call in calls}
    assert chosen[".cover.mp4.partial"] == ("0:1", "30/1") and chosen[".slide.mp4.partial"] == ("0:2", "25")


@needs_bash
@pytest.mark.needs("ffmpeg")
def test_script_converts_every_frame(tmp_path):
    (tmp_path / "in").mkdir()
    number_video(tmp_path / "in" / "a.mp4", pts=[i * i for i in range(40)])
    subprocess.run(["bash", SCRIPT, "training", tmp_path / "in", tmp_path / "out"], check=True, timeout=60)
    (job,) = find_jobs(tmp_path / "in", tmp_path / "out")
    with VideoReader(job.target) as video:
        assert read_numbers(video.get_frames(range(video.num_frames))) == list(range(40))
    assert not is_done(job, RECIPES["training"])  # its times are not those of the source


@needs_bash
@pytest.mark.slow
def test_script_converts_the_same_files(tmp_path):
    listed = SCRIPT.read_text().split("suffixes=(", 1)[1].split(")", 1)[0].split()
    assert [f".{suffix}" for suffix in listed] == list(VIDEOS.suffixes)
    source, destination = tmp_path / "in", tmp_path / "out"
    names = [f"a/{number}{suffix.upper()}" for number, suffix in enumerate(VIDEOS.suffixes)]
    for name in [
        *names,
        "b/1.mp4",
        "b/notes.txt",
        ".x/1.mp4",
        "../pool/2.mp4",
        *(f"{name}/1.mp4" for name in SYSTEM_NAMES),
    ]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    links = {
        "a/loop": ".",
        "a/up": "..",
        "b/top": "/",
        "b/pool": "../../pool",
        "b/to_a": "../a",
        "a/gone.mp4": "nowhere",
    }
    for link, target in {**links, "../pool/back": "../in/b", "a/itself": "itself"}.items():
        (source / link).symlink_to(target)
    done, calls = run_script(tmp_path, "training", source, destination)
    assert done.returncode == 0 and done.stderr.decode() == "files skipped, because videos have other suffixes: 1\n"
    jobs = find_jobs(source, destination)
    assert len(jobs) == 2 * len(names) + 4
    assert sorted(call[-1] for call in calls) == sorted(f"file:{partial_path(job.target)}" for job in jobs)


@needs_bash
def test_script_in_parts_and_from_names(tmp_path):
    source, destination = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(5):
        (source / f"{number}.mp4").write_text("x")
    (source / "broken.mp4").write_text("x")
    named, calls = run_script(tmp_path, "training", source, destination, "-", stdin=b"./3.mp4\0broken.mp4\0")
    assert named.returncode == 1 and len(calls) == 2
    assert (destination / "conversion_failures.names.txt").read_text() == f"{source}/broken.mp4\n"
    seen = []
    for part in ("1/2", "2/2"):
        seen += run_script(tmp_path, "training", source, destination, part)[1]
    assert len(seen) == 5  # each of the others, once
    assert sorted(path.name for path in destination.glob("*.mp4")) == [f"{number}.mp4" for number in range(5)]
    for arguments in (["traning", source, destination], ["training", source], ["training", source, source / "b"]):
        assert run_script(tmp_path, *arguments)[0].returncode == 2


def test_pyav_can_encode_every_recipe():
    assert {recipe.codec for recipe in RECIPES.values()} <= av.codecs_available


def test_a_target_is_written_by_one_command_at_a_time(tmp_path):
    number_video(tmp_path / "a.mp4")
    job = Job(str(tmp_path / "a.mp4"), str(tmp_path / "out/a.mp4"))
    (tmp_path / "out").mkdir()
    with open(partial_path(job.target), "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("what another command has written")
        other.flush()
        with pytest.raises(VideoError, match="another command is converting it; start this one again afterwards"):
            convert(job, RECIPES["training"], None)
        assert Path(partial_path(job.target)).read_text() == "what another command has written"
    assert convert(job, RECIPES["training"], None) == "" and is_done(job, RECIPES["training"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.mp4"]


def test_a_long_name_fails_alone_and_targets_get_the_usual_mode(tmp_path):
    names = ["a.mp4", "m" * 250 + ".mp4"]
    jobs = [Job(str(number_video(tmp_path / name)), str(tmp_path / "out" / name)) for name in names]
    assert convert(jobs[0], RECIPES["training"], None) == ""
    (tmp_path / "usual").touch()
    assert Path(jobs[0].target).stat().st_mode == (tmp_path / "usual").stat().st_mode
    with pytest.raises(VideoError, match="its name is too long for the temporary name of the target"):
        convert(jobs[1], RECIPES["training"], None)


@needs_bash
def test_script_goes_on_after_a_long_name(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "m" * 250, "z"):
        (tmp_path / "in" / f"{name}.mp4").write_text("x")
    done, _ = run_script(tmp_path, "training", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 1 and b"is the name too long" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mp4")) == ["a.mp4", "z.mp4"]
    assert "mmm" in (tmp_path / "out" / "conversion_failures.1-of-1.txt").read_text()
