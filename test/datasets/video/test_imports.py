"""Reading videos and images needs no optional decoder, and imports no slow library that it does not use."""

import subprocess
import sys

from encode import encode_video, number_frames

BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
"""


def run(code, *arguments, blocked=()):
    script = BLOCK.format(blocked=tuple(blocked)) + code
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_videos_are_read_and_trained_on_without_other_decoders(tmp_path):
    """By default neither decord nor torchcodec, OpenCV, torchvision or timm is imported."""
    path = encode_video(tmp_path / "clip.mp4", number_frames(20))
    code = """
import numpy as np
from datasets.dataloader import eval_loader, to_device, train_loader
from datasets.file_list import FileList
from datasets.video import *
import torch

with VideoReader(sys.argv[1]) as video:
    print(video.num_frames, *video.get_frames([3, 1]).shape)
files = FileList(["a"], [0], [sys.argv[1]])
view = TrainView(TrainViewSettings(short_side=(36, 40), crop=32), ColorSettings())
clips = TrainClips(files, RandomSampling(4, 3), view, seed=0)
views = VideoViews(files, EvenSampling(4, 3, 2), EvalView(EvalViewSettings(short_side=36, crop=32)))
cpu = torch.device("cpu")
print(*next(to_device(train_loader(clips, 0, 1, 2, 0, 1), cpu))["clip"].shape)
print(*next(to_device(eval_loader(views, 2, 0, 1), cpu))["views"].shape)
"""
    blocked = ("decord", "torchcodec", "cv2", "torchvision", "timm")
    shapes = list(map(int, run(code, path, blocked=blocked)))
    assert shapes == [20, 2, 48, 64, 3, 2, 3, 4, 32, 32, 1, 2, 3, 4, 32, 32]


def test_image_lists_are_imported_without_torchvision():
    run("import datasets.images", blocked=("decord", "torchvision", "timm"))
