"""tools/predict.py: a row per file as it is done, rows for failures, and no byte lost by an interruption."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch
from conftest import ROOT
from launching import ForkedRun, python_words

from tools import predict
from tools.common.errors import clear_errors


@pytest.fixture(scope="module")
def fifty(brief_run, tmp_path_factory):
    """A folder of 50 videos, of which 3 are broken, and one has a comma and quotes in its name."""
    folder = tmp_path_factory.mktemp("fifty")
    whole = [path for path in sorted((brief_run.parent / "videos/val").glob("*/*.mp4")) if path.stat().st_size > 300]
    for number in range(50):
        target = folder / (f'{number:02d} "a", b.mp4' if number == 8 else f"{number:02d}.mp4")
        shutil.copy(whole[number % len(whole)], target)
        if number in (0, 21, 49):
            target.write_bytes(target.read_bytes()[: 300 * (number > 0)])
    return folder


def rows_of(table):
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def status_of(arguments) -> int:
    with pytest.raises(SystemExit) as end:
        clear_errors(lambda: predict.main([*map(str, arguments)]))
    return end.value.code


@pytest.mark.slow
def test_killed_after_20_of_50_it_continues_to_the_same_bytes(brief_run, fifty, tmp_path, start, capfd):
    views = ("evaluation.num_clips=3", "evaluation.clips_per_forward=6")  # two files per batch
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def words(folder):
        folder.mkdir(exist_ok=True)
        outputs = ("--csv", folder / "guesses.csv", "--json", folder / "guesses.jsonl")
        return ("tools/predict.py", "--run-dir", brief_run, "--top", "2", *views, *outputs, fifty)

    done = start(*words(whole), check=False)
    assert done.returncode == 1 and "no prediction for 3 of 50" in done.stderr
    assert done.stdout.count("\n") == 50 and done.stdout.count("no prediction for ") == 3
    rows = rows_of(whole / "guesses.csv")
    assert [row["path"] for row in rows] == [str(path) for path in sorted(fifty.iterdir())]
    assert [number for number, row in enumerate(rows) if row["failure"]] == [0, 21, 49]
    assert all(bool(row["guess1"]) != bool(row["failure"]) for row in rows)
    assert rows[0]["failure"] == "is empty (0 bytes)"
    lines = [json.loads(line) for line in (whole / "guesses.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [row["path"] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert [f"{guess['probability']:.6f}" for guess in line["guesses"]] == [
            row[name] for name in ("probability1", "probability2") if row[name]
        ]

    run = ForkedRun(python_words(*words(killed)), os.environ | {"OMP_NUM_THREADS": "1"})
    while (killed / "guesses.csv").read_bytes().count(b"\n") < 21 if (killed / "guesses.csv").exists() else True:
        assert run.is_running()
        time.sleep(0.002)
    run.kill()
    table = killed / "guesses.csv"
    assert 20 <= len(rows_of(table)) < 50
    with open(table, "ab") as file:
        file.write(b'/somewhere/"torn, ')  # the write that the kill cut short
    again = start(*words(killed), check=False)
    kept = int(re.search(r"(\d+) of 50 files are done", again.stderr)[1])
    assert 19 <= kept < 50  # a row is kept once both tables have it
    assert again.returncode == 1 and again.stdout.count("\n") == 50 - kept
    for name in ("guesses.csv", "guesses.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    finished = start(*words(killed), check=False)
    assert finished.returncode == 1 and "50 of 50 files are done" in finished.stderr and not finished.stdout


def test_rows_of_another_command_are_refused(brief_run, fifty, tmp_path, capfd):
    table = tmp_path / "guesses.csv"
    few = [str(path) for path in sorted(fifty.iterdir())[1:4]]
    arguments = ["--run-dir", brief_run, "--csv", table]
    predict.main([*map(str, arguments), *few])
    before = table.read_bytes()
    for changed, message in (
        (["--top", "3", *few], "was written with other settings (top: 5 -> 3); name another file, or delete this one"),
        (["evaluation.num_clips=2", *few], "was written with other settings (settings.evaluation.num_clips: 1 -> 2)"),
        (["--checkpoint", "last", *few], "was written with other settings (weights.sha256"),
        ([few[1], few[0]], f"has a row for {few[0]} where {few[1]} comes now: the files differ"),
        (few[:2], "has 3 rows, but there are 2 files now"),
    ):
        assert status_of([*arguments, *changed]) == 2
        assert message in capfd.readouterr().err
    (tmp_path / "notes.csv").write_text("my notes\n")
    assert status_of(["--run-dir", brief_run, "--csv", tmp_path / "notes.csv", *few]) == 2
    assert "notes.csv already exists, and is not from this command" in capfd.readouterr().err
    assert table.read_bytes() == before and (tmp_path / "notes.csv").read_text() == "my notes\n"
    predict.main([*map(str, arguments), *few, str(fifty / "05.mp4")])  # more files at the end continue it
    assert table.read_bytes().startswith(before) and len(rows_of(table)) == 4


def test_rows_of_a_replaced_video_are_refused(brief_run, fifty, tmp_path, capfd):
    (tmp_path / "videos").mkdir()
    for name in ("01.mp4", "02.mp4"):
        shutil.copy2(fifty / name, tmp_path / "videos")
    arguments = ["--run-dir", brief_run, "--csv", tmp_path / "guesses.csv", tmp_path / "videos"]
    predict.main([*map(str, arguments)])
    time.sleep(0.02)  # a kernel's clock for files ticks every few milliseconds
    (tmp_path / "videos/02.mp4").unlink()
    shutil.copy2(fifty / "03.mp4", tmp_path / "videos/02.mp4")  # an old time, but another file
    before = (tmp_path / "guesses.csv").read_bytes()
    assert status_of(arguments) == 2
    assert "videos/02.mp4 has changed since its row in" in capfd.readouterr().err
    assert (tmp_path / "guesses.csv").read_bytes() == before


def test_status_2_if_no_file_can_be_read(brief_run, fifty, tmp_path, capfd):
    broken = [fifty / "00.mp4", fifty / "21.mp4"]
    assert status_of(["--run-dir", brief_run, "--csv", tmp_path / "guesses.csv", *broken]) == 2
    output = capfd.readouterr()
    assert "no prediction for 2 of 2" in output.err and output.out.count("no prediction for") == 2
    assert len(rows_of(tmp_path / "guesses.csv")) == 2


def test_outputs_that_are_not_finite_are_failures(brief_run, fifty, tmp_path, capfd):
    weights = safetensors.torch.load_file(brief_run / "checkpoints/best.safetensors")
    weights["classifier.weight"] = torch.full_like(weights["classifier.weight"], 3e38)
    safetensors.torch.save_file(weights, tmp_path / "overflowing.safetensors")
    source = ["--run-dir", brief_run, "--checkpoint", tmp_path / "overflowing.safetensors"]
    assert status_of([*source, "--csv", tmp_path / "guesses.csv", fifty / "01.mp4"]) == 2
    (row,) = rows_of(tmp_path / "guesses.csv")
    assert row["failure"] == "the network's outputs are NaN or infinite" and not row["guess1"]
    assert "NaN or infinite" in capfd.readouterr().out


def test_options_stand_anywhere_and_tables_fit_the_guesses(brief_run, fifty, tmp_path, capfd):
    table, video = tmp_path / "new/guesses.csv", fifty / '08 "a", b.mp4'
    words = [
        video,
        "evaluation.num_clips=2",
        "--top",
        "99",
        "--csv",
        table,
        "run.num_threads=1",
        "--run-dir",
        brief_run,
    ]
    predict.main([*map(str, words)])
    (row,) = rows_of(table)
    assert row["path"] == str(video) and row["probability8"] and "guess9" not in row
    output = capfd.readouterr()
    assert output.out.splitlines()[0] == str(video) and len(output.out.splitlines()) == 9
    assert "best.safetensors" in output.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top", "0", "x.mp4"], "--top: 0 is not a whole number of at least 1"),
        (["evaluation.num_clips=2"], "no file to predict on"),
        (["--csv", "FOLDER", "x.mp4"], "cannot write FOLDER: it is a folder"),
        (["--csv", "FOLDER/a", "--json", "FOLDER/../FOLDERNAME/a", "x.mp4"], "--csv and --json are the same file"),
        ([""], "an empty path was given; expected a file or folder of videos"),
        (["--overlay", "VIDEO", "VIDEO"], "is the input"),
        (["--window", "2", "x.mp4"], "--window has no effect on whole files"),
        (["--stride", "0", "--timeline", "FOLDER", "x.mp4"], "--stride: 0 is not a number above 0"),
        (["--timeline", "FOLDER", "--csv", "a.csv", "x.mp4"], "leave out --csv and --json"),
        (["--overlay", "a.mp4", "x.mp4", "y.mp4"], "--overlay draws on a single video; got 2"),
        (["--timeline", "FOLDER", "rtsp://camera/1"], "--timeline and --overlay need a video file"),
        (["rtsp://camera/1", "x.mp4"], "rtsp://camera/1: a stream must be the only input"),
        (["rtsp://localhost:1/x"], "rtsp://localhost:1/x: the stream cannot be opened: Connection refused"),
    ],
)
def test_mistakes_are_one_message_before_any_work(brief_run, arguments, message, tmp_path, capfd):
    video = next((brief_run.parent / "videos/val").rglob("*.mp4"))
    before = video.read_bytes()
    for word, value in {"FOLDERNAME": tmp_path.name, "FOLDER": str(tmp_path), "VIDEO": str(video)}.items():
        arguments = [argument.replace(word, value) for argument in arguments]
    places = [str(brief_run.parent / "videos/val") if argument == "x.mp4" else argument for argument in arguments]
    assert status_of(["--run-dir", brief_run, *places]) == 2
    output = capfd.readouterr()
    assert message.replace("FOLDER", str(tmp_path)) in output.err and "Traceback" not in output.err
    assert not output.out and video.read_bytes() == before


@pytest.mark.slow
def test_it_runs_in_one_process(brief_run, fifty, start):
    done = start("tools/predict.py", "--run-dir", brief_run, fifty, processes=2, check=False)
    assert done.returncode != 0 and done.stderr.count("runs in one process; start it without torchrun") == 1


def test_help_imports_no_torch():
    code = (
        "import sys, time; sys.argv = ['predict.py', '--help']\n"
        "try: runpy = __import__('runpy'); runpy.run_path('tools/predict.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, 'av' in sys.modules, time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    torch_there, av_there, seconds = done.stdout.splitlines()[-1].split()
    assert (torch_there, av_there) == ("False", "False") and float(seconds) < 1.5
