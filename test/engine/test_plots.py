"""Curves are drawn whatever their titles and numbers."""

import json

from PIL import Image

from engine.plots import plot_curves


def test_titles_with_dollars_and_curves_without_numbers(tmp_path):
    rows = [{"epoch": n, "split": split, "loss": None, "top1": n / 3, "learning_rate": 1.0}
            for n in range(3) for split in ("train", "val")]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plot_curves(tmp_path / "metrics.jsonl", tmp_path / "plots/curves.png", {"loss": "$loss$_$", "top1": "top-1"})
    assert Image.open(tmp_path / "plots/curves.png").width > 1000
