"""A network in other runtimes and fewer bits than PyTorch's eager mode, with random weights."""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import nn

from engine.environment import processor_name
from engine.precision import place_model
from inference.acceleration import METHODS
from inference.acceleration.methods import Source
from inference.export.compare import compare_speed, max_differences
from models import create_model, model_info
from settings import SettingsError, did_you_mean
from tasks.classification_settings import AccelerationMethod
from tools.common.arguments import positive

HELP = """A network in other runtimes and fewer bits than PyTorch's eager mode (evaluation.acceleration).

The weights are random, and batch norms are fitted to one batch. "Difference" is the largest difference of a logit for
one random input, as a fraction of the largest logit; tools/evaluate.py, with trained weights, measures what it means
for classes. The methods take turns, in processor seconds of one thread; "faster" is the median ratio of neighbors."""

NUM_CLASSES = 400
CALIBRATION = 8
"""Random inputs that calibrate the ranges of int8."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a network of models.list_models(), such as eat_small")
    parser.add_argument("--methods", type=_methods, metavar="LIST", help="separated by commas (all that can run here)")
    parser.add_argument("--batch", type=positive, default=4, metavar="N", help="batch size (4)")
    parser.add_argument("--repeats", type=positive, default=5, metavar="N", help="measured batches (5)")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the methods' files here, and reuse those from before"
    )


def run(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    methods = args.methods or tuple(name for name in METHODS if not METHODS[name].missing)
    model, shape = settled_network(args.name)
    with tempfile.TemporaryDirectory() as temporary, torch.inference_mode():
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        source = Source(model, shape, args.name, folder, lambda: random_inputs(shape))
        forwards = {}
        for name in methods:
            if METHODS[name].missing:
                raise SettingsError(f"{name} needs {METHODS[name].missing}")
            forwards[name] = source.open(name)
        differences = {name: max_differences(model, forwards[name], shape, (1,))[1] for name in methods}
        speeds = compare_speed(model, forwards, shape, args.batch, args.repeats)
    print(f"{args.name}, batch {args.batch}, one thread of {processor_name()}")
    print(f"{'':<18}{'ms':>10}{'faster':>10}{'difference':>14}")
    for name, (milliseconds, ratio) in speeds.items():
        difference = f"{differences[name]:.1e}" if name in differences else "-"
        print(f"{name:<18}{milliseconds:10.1f}{ratio:9.2f}x{difference:>14}")


def settled_network(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network with random weights, in eval mode, and the shape of its input. Batch norms have seen one batch."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=NUM_CLASSES)
    shape = model_info(name).input_shape
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(2, *shape))
    return place_model(model, torch.device("cpu"), channels_last=True).eval(), shape


def random_inputs(shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    generator = torch.Generator().manual_seed(3)
    for _ in range(CALIBRATION):
        yield torch.randn(1, *shape, generator=generator).numpy()


def _methods(text: str) -> tuple[AccelerationMethod, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in METHODS:
            raise argparse.ArgumentTypeError(f"no method {name!r}{did_you_mean(name, get_args(AccelerationMethod))}")
    return names
