"""The comparison of recipes: it runs, and measures the files that it makes."""

import csv

import pytest
from encode import encode_video, number_frames

from datasets.video.convert import Job, convert
from datasets.video.recipes import RECIPES
from tools.benchmark import main
from tools.benchmarks.recipes import psnr, variants


def test_table(tmp_path, capsys):
    clip = encode_video(tmp_path / "clip.mp4", number_frames(24, 240, 256), gop=24)
    table = tmp_path / "table.csv"
    main(["recipes", str(clip), "--recipes", "training", "short160", "--clips", "2", "--csv", str(table)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["original", "short160", "training"]
    with table.open() as file:
        rows = {row["recipe"]: row for row in csv.DictReader(file)}
    assert float(rows["training"]["psnr"]) > 25 and float(rows["training"]["clips_per_second"]) > 0
    made = tmp_path / "made.mp4"
    convert(Job(str(clip), str(made)), RECIPES["training"], None)
    expected = made.stat().st_size / clip.stat().st_size
    assert float(rows["training"]["size_ratio"]) == pytest.approx(expected, rel=0.01)


def test_similarity_is_to_the_scaled_original(tmp_path):
    clip = encode_video(tmp_path / "clip.mp4", number_frames(6, 320, 400))
    similarity = {}
    for bits in ("60k", "2000k"):
        recipe = RECIPES["short160"]._replace(options={"b": bits})
        convert(Job(str(clip), str(tmp_path / "out.mp4")), recipe, None)
        similarity[bits] = psnr(str(clip), str(tmp_path / "out.mp4"), recipe)
    assert 20 < similarity["60k"] < similarity["2000k"] < 60


def test_variants_change_one_thing():
    ours = RECIPES["training"]
    for name, recipe in variants().items():
        assert name in RECIPES or recipe != ours
