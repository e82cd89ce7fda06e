"""How long one video takes from its file to its labels, in a fresh process on one core, and where the time goes."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import get_args

from tools.common.arguments import positive

HELP = """How long a 10-second video of 1280 x 720 (H.264) takes from its file to its labels, on one core.

Every repeat is a new process, with files already in the system's cache. The last line is another file in the same
process, as in a program or page that keeps its Predictor."""

SUITE = Path(__file__).resolve().parent.parent.parent
NUM_FRAMES, FPS, HEIGHT, WIDTH = 300, 30, 720, 1280


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tasks.classification_settings import AccelerationMethod  # not at the top: imports are measured

    parser.add_argument("name", nargs="?", default="glore_resnet50_3d", help="a network for clips (glore_resnet50_3d)")
    parser.add_argument(
        "--acceleration",
        default="off",
        choices=["off", "auto", *get_args(AccelerationMethod)],
        help="evaluation.acceleration: off, auto or a method (off)",
    )
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="processes to time (5)")


def run(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        weights, video = Path(folder, "weights.safetensors"), Path(folder, "video.mp4")
        write_weights(args.name, weights)
        write_video(video)
        command = [sys.executable, "-m", "tools.benchmarks.latency", str(weights), str(video), args.acceleration]
        repeats = []
        for _ in range(args.repeats + 1):
            done = subprocess.run(command, cwd=SUITE, capture_output=True, text=True, check=True)
            repeats.append(json.loads(done.stdout))
    repeats = repeats[1:]  # the first one fills the system's caches
    print(f"acceleration: {args.acceleration}")
    print(f"{args.name}, {NUM_FRAMES} frames of {WIDTH} x {HEIGHT}, one core; medians of {args.repeats} processes")
    print(f"{'':<34} {'seconds':>8} {'processor':>10}")
    for stage in repeats[0]:
        wall, processor = (statistics.median(times[stage][n] for times in repeats) for n in (0, 1))
        print(f"{stage:<34} {wall:8.2f} {processor:10.2f}")


def write_weights(name: str, path: Path) -> None:
    """A file of random weights that carries its recipe."""
    import safetensors.torch

    from models import create_model

    recipe = {
        "task": "clip_classification",
        "model": {"name": name},
        "data": {"train": "none", "val": "none", "class_names": [f"class {n}" for n in range(400)]},
        "optimizer": {"lr": 0.1},
        "train": {"num_epochs": 1, "batch_size": 1},
        "run": {"num_threads": 1},
    }
    weights = create_model(name, num_classes=400).state_dict()
    weights = {key: value.contiguous() for key, value in weights.items()}
    safetensors.torch.save_file(weights, path, {"recipe": json.dumps(recipe)})


def write_video(path: Path) -> None:
    """A moving texture with noise, so that the video has the bit rate of filmed material."""
    import av
    import numpy as np

    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 256, (HEIGHT // 16 + 20, WIDTH // 16 + 40, 3)), np.ones((16, 16, 1)))
    picture = np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "23"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for number in range(NUM_FRAMES):
            top, left = number // 2, 2 * number
            frame = np.ascontiguousarray(picture[top : top + HEIGHT, left : left + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


class Stages:
    """Wall-clock and processor seconds of each stage."""

    def __init__(self):
        self.seconds = {"Python": (time.process_time(), time.process_time())}
        self._last = time.perf_counter(), time.process_time()

    def end(self, stage: str) -> None:
        now = time.perf_counter(), time.process_time()
        self.seconds[stage] = tuple(after - before for after, before in zip(now, self._last, strict=True))
        self._last = time.perf_counter(), time.process_time()


def time_stages(weights: str, video: str, acceleration: str) -> dict[str, tuple[float, float]]:
    """The stages of a prediction in this process, then the whole of a second one."""
    stages = Stages()
    import torch

    from inference import Predictor

    stages.end("imports")
    predictor = Predictor(weights, device="cpu", acceleration=acceleration)
    stages.end("network and weights")
    task = predictor.task
    files = predictor.find_inputs([video])
    dataset = task.eval_views(files)
    with dataset.opener(video) as reader:
        stages.end("open the video, find its frames")
        indices = dataset.sampling(reader.num_frames, 0, fps=reader.fps)
        frames = reader.get_frames(indices)
        stages.end("decode the frames of the clip")
    views = dataset.view(frames)
    stages.end("resize and crop")
    with torch.inference_mode():
        predictor.model(task.network_input(views))
    stages.end("network")
    stages.seconds["from start to labels"] = tuple(map(sum, zip(*stages.seconds.values(), strict=True)))
    next(predictor(video))
    stages.end("another prediction")
    next(predictor(video))
    stages.end("and another, file to labels")
    return stages.seconds


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(json.dumps(time_stages(*sys.argv[1:])))
