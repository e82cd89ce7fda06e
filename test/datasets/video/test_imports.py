"""By default, reading videos imports no other decoder, and no slow library that it does not use."""

import subprocess
import sys
from pathlib import Path

from encode import encode_video, number_frames

SCRIPT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("decord", "torchcodec", "cv2", "torchvision", "timm", "pycocotools"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())

import torch
import datasets.dense
import datasets.images
import datasets.synthetic
import datasets.video as v
from datasets.dataloader import eval_loader, to_device, train_loader
from datasets.file_list import FileList

with v.VideoReader(sys.argv[1]) as video:
    print(video.num_frames, *video.get_frames([3, 1]).shape)
files = FileList(["a"], [0], [sys.argv[1]])
view = v.TrainView(v.TrainViewSettings(short_side=(36, 40), crop=32), v.ColorSettings())
clips = v.TrainClips(files, v.RandomSampling(4, 3), view, seed=0)
views = v.VideoViews(files, v.EvenSampling(4, 3, 2), v.EvalView(v.EvalViewSettings(short_side=36, crop=32)))
cpu = torch.device("cpu")
print(*next(to_device(train_loader(clips, 0, 1, 2, 0, 1), cpu))["clip"].shape)
print(*next(to_device(eval_loader(views, 2, 0, 1), cpu))["views"].shape)
"""


def test_videos_are_read_without_other_decoders(tmp_path):
    path = encode_video(tmp_path / "clip.mp4", number_frames(20))
    line = [sys.executable, "-c", SCRIPT, path]
    done = subprocess.run(line, cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["20 2 48 64 3", "2 3 4 32 32", "1 2 3 4 32 32"]
