"""The README's picture is drawn from a run of any video recipe with few classes."""

import pytest
from made_run import make_run
from PIL import Image

from settings import SettingsError
from tools import draw_demo


def test_the_picture(tmp_path, motion_videos):
    videos = sorted(map(str, motion_videos.glob("val/*/*.mp4")))
    run = make_run(tmp_path / "run", ["left", "turn_clockwise", "$"], 20, paths=videos)
    draw_demo.main([str(run), "-o", str(tmp_path / "demo.png")])
    assert Image.open(tmp_path / "demo.png").size == (1800, 1116)
    (run / "metrics.jsonl").unlink()
    with pytest.raises(SettingsError, match="train the demo first"):
        draw_demo.main([str(run), "-o", str(tmp_path / "demo.png")])
