"""Features of files: the same for any number of workers and ranks, continued to the same bytes, failures listed."""

import csv
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from launching import ForkedRun, python_words

from inference import feature_shards, load_trained
from inference.feature_shards import read_features, read_shard
from inference.linear_probe import read_labeled
from settings import SettingsError
from tools import extract_features
from tools.common.errors import clear_errors

pytestmark = pytest.mark.slow


def extract(brief_run, output, *arguments):
    """Exit status of tools/extract_features.py: two videos a batch, two a shard."""
    settings = ("evaluation.clips_per_forward=2", "data.num_workers=0", "run.num_threads=1")
    with pytest.raises(SystemExit) as end:
        clear_errors(lambda: _end(["--run-dir", str(brief_run), "-o", str(output), *settings, *map(str, arguments)]))
    return end.value.code


def _end(arguments):
    extract_features.main([*arguments[:4], "--files-per-shard", "2", *arguments[4:]])
    raise SystemExit(0)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(brief_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "features"
    assert extract(brief_run, folder) == 1
    return folder


def test_features_come_with_names_and_failures(brief_run, whole):
    features = read_features(whole)
    task = load_trained(brief_run).task
    files = [file for file in task.val_files if file.index != 4]
    assert features["features"].shape == (8, 256) and features["features"].dtype == np.float32
    assert features["index"].tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert features["id"] == [file.id for file in files] and features["path"] == [file.path for file in files]
    assert features["label"].tolist() == [file.label for file in files]
    about = features["about"]
    assert about["class_names"] == list(task.class_names) and "turn_clockwise" in about["class_names"]
    assert (about["layer"], about["protocol"], about["level"], about["num_files"]) == ("pooled", "1x1", "video", 9)
    failures = list(csv.DictReader((whole / "failures.csv").read_text().splitlines()))
    assert [(row["index"], row["path"]) for row in failures] == [("4", task.val_files[4].path)]
    assert "Invalid data" in failures[0]["reason"]


def test_the_classifier_on_features_gives_the_predictions(brief_run, whole):
    trained = load_trained(brief_run)
    features = read_features(whole)
    views = trained.task.eval_views(trained.task.val_files)[6]["views"]
    with torch.inference_mode():
        expected = trained.model(trained.task.network_input(views))
        logits = trained.model.classifier(torch.from_numpy(features["features"][5:6]))
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("workers", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_workers_change_no_byte(brief_run, whole, tmp_path, workers):
    assert extract(brief_run, tmp_path / "features", f"data.num_workers={workers}") == 1
    assert contents(tmp_path / "features") == contents(whole)


def test_an_interrupted_extraction_continues_to_the_same_bytes(brief_run, whole, tmp_path, monkeypatch):
    write, written = feature_shards.ShardFolder.write, []

    def killed_at_the_third(folder, number, shard):
        if len(written) == 2:
            (folder.folder / ".features-00002-of-00005.npz.1.partial").write_bytes(b"half")
            raise KeyboardInterrupt
        written.append(number)
        write(folder, number, shard)

    monkeypatch.setattr(feature_shards.ShardFolder, "write", killed_at_the_third)
    assert extract(brief_run, tmp_path / "features") == 130
    with pytest.raises(SettingsError, match="has 2 of 5 shards"):
        read_features(tmp_path / "features")
    written.clear()
    monkeypatch.setattr(feature_shards.ShardFolder, "write", lambda *rest: (written.append(rest[1]), write(*rest)))
    assert extract(brief_run, tmp_path / "features", "data.num_workers=2") == 1
    assert written == [2, 3, 4]
    assert contents(tmp_path / "features") == contents(whole)
    assert extract(brief_run, tmp_path / "features") == 1 and len(written) == 3


def test_maps_of_clips_as_safetensors(brief_run, tmp_path):
    arguments = ("--layer", "conv5", "--pool", "none", "--level", "clip", "--format", "safetensors")
    assert extract(brief_run, tmp_path / "maps", *arguments, "evaluation.num_clips=2") == 1
    maps = read_features(tmp_path / "maps")
    assert maps["about"]["protocol"] == "2x1" and maps["features"].shape == (8, 2, 256, 2, 1, 1)
    assert extract(brief_run, tmp_path / "mean", "--layer", "conv5", "--level", "clip", "evaluation.num_clips=2") == 1
    pooled = read_features(tmp_path / "mean")["features"]
    np.testing.assert_allclose(maps["features"].mean((3, 4, 5)), pooled, rtol=1e-4, atol=1e-4)


def test_all_labels_are_kept(brief_run, tmp_path):
    task = load_trained(brief_run).task
    lines = (f"{file.id}\t{labels}\t{file.path}\n" for file, labels in zip(task.val_files, ("3", "2,0"), strict=False))
    (tmp_path / "list.txt").write_text("".join(lines))
    several = (f"data.val={tmp_path / 'list.txt'}", f"data.train={tmp_path / 'list.txt'}", "loss.multi_label=true")
    assert extract(brief_run, tmp_path / "features", *several) == 0
    features = read_features(tmp_path / "features")
    assert features["labels"] == [[3], [2, 0]] and features["label"].tolist() == [3, 2]
    with pytest.raises(SettingsError, match=r"1 of 2 files in .* have several labels"):
        read_labeled(tmp_path / "features")


def test_files_and_folders_and_the_exit_status(brief_run, tmp_path):
    task = load_trained(brief_run).task
    good, broken = task.val_files[0].path, task.val_files[4].path
    assert extract(brief_run, tmp_path / "one", good) == 0
    assert read_features(tmp_path / "one")["label"].tolist() == [-1]
    assert extract(brief_run, tmp_path / "none", broken) == 2
    none = read_shard(tmp_path / "none/features-00000-of-00001.npz")
    assert none["features"].shape == (0, 256) and none["failures"][0]["path"] == broken
    assert extract(brief_run, tmp_path / "folder", brief_run.parent / "videos/val") == 1
    assert len(read_features(tmp_path / "folder")["id"]) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "conv55"], "has no module 'conv55'; did you mean 'conv5'?"),
        (["gone.mp4"], "no file or folder of videos at gone.mp4"),
        (["-o", "WHOLE", "--layer", "conv5"], "has other features (layer: 'pooled' there, 'conv5' now)"),
        (["-o", "WHOLE/features.json/x"], "choose another folder with -o"),
        (["data.vall=x"], "data.vall: unknown setting; did you mean 'val'?"),
    ],
)
def test_errors_are_one_message(brief_run, whole, tmp_path, capsys, arguments, message):
    arguments = [argument.replace("WHOLE", str(whole)) for argument in arguments]
    assert extract(brief_run, tmp_path / "features", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_features_of_a_replaced_video_are_refused(brief_run, tmp_path, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    first, second = sorted((brief_run.parent / "videos/val").rglob("*.mp4"))[:2]
    shutil.copy(first, videos / "a.mp4")
    assert extract(brief_run, tmp_path / "features", videos) == 0
    assert extract(brief_run, tmp_path / "features", videos) == 0
    shutil.copy(second, videos / "a.mp4")
    assert extract(brief_run, tmp_path / "features", videos) == 2
    assert "has other features (file_sizes_sha256" in capsys.readouterr().err


def test_a_damaged_shard_is_named(brief_run, whole, tmp_path, capsys):
    folder = shutil.copytree(whole, tmp_path / "features")
    shard = folder / "features-00001-of-00005.npz"
    shard.write_bytes(shard.read_bytes()[:100])
    assert extract(brief_run, folder) == 2
    assert f"{shard} is damaged; delete it" in capsys.readouterr().err
    shard.unlink()
    assert extract(brief_run, folder) == 1 and contents(folder) == contents(whole)


@pytest.mark.slow
def test_two_ranks_write_the_bytes_of_one(brief_run, whole, tmp_path, start):
    arguments = ("--run-dir", brief_run, "-o", tmp_path / "features", "--files-per-shard", "2")
    settings = ("evaluation.clips_per_forward=2", "data.num_workers=1")
    start("tools/extract_features.py", *arguments, *settings, processes=2, check=False)
    assert contents(tmp_path / "features") == contents(whole)


@pytest.mark.slow
def test_a_killed_process_continues_to_the_same_bytes(brief_run, tmp_path, start):
    """Killed by SIGKILL after its first shards."""
    settings = ("evaluation.num_clips=10", "data.num_workers=1", "run.num_threads=1", "--files-per-shard", "1")
    words = ("--run-dir", brief_run, *settings)
    start("tools/extract_features.py", *words, "-o", tmp_path / "whole", check=False)
    words_of_killed = python_words("tools/extract_features.py", *words, "-o", tmp_path / "killed")
    killed = ForkedRun(words_of_killed, os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("features-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    killed.kill()
    assert killed.process.exitcode == -signal.SIGKILL and not (tmp_path / "killed/failures.csv").exists()
    start("tools/extract_features.py", *words, "-o", tmp_path / "killed", check=False)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert json.loads((tmp_path / "killed/features.json").read_text())["num_shards"] == 9


def test_features_of_a_network_with_another_classifier(brief_run, whole, tmp_path):
    weights = {name: value for name, value in load_trained(brief_run).model.state_dict().items() if "class" not in name}
    other = {"classifier.weight": torch.zeros(7, 256), "classifier.bias": torch.zeros(7)}
    torch.save(weights | other, tmp_path / "pretrained.pth")
    assert extract(brief_run, tmp_path / "features", "--pretrained", tmp_path / "pretrained.pth") == 1
    first, second = read_features(whole), read_features(tmp_path / "features")
    assert np.array_equal(first["features"], second["features"])
    assert first["about"]["weights_sha256"] != second["about"]["weights_sha256"]


def test_pretrained_and_a_checkpoint_are_not_both_taken(capsys):
    with pytest.raises(SystemExit):
        extract_features.main(["-o", "out", "--pretrained", "a.pth", "--checkpoint", "best"])
    assert "--pretrained replaces --checkpoint and --average; give one or the other" in capsys.readouterr().err
