"""UPerNet's head: ours compared with that of transformers, which is mmsegmentation's in plain PyTorch."""

import argparse
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from dense.upernet import UPerHead
from settings import SettingsError
from tools.benchmarks.timing import Contestant, add_timing_arguments, measure
from tools.common.arguments import positive

HELP = """UPerNet's head on the maps of a backbone: inference, from maps of strides 4 to 32 to 150 classes.

"transformers" is UperNetHead of that package, `pip install transformers`. Both heads have as many parameters.
"""

KINDS = ("transformers", "ours")
NUM_CLASSES = 150
STRIDES = (4, 8, 16, 32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=positive, default=512, help="height and width of the image")
    parser.add_argument(
        "--width", type=positive, default=64, help="channels of the finest map; each other has twice as many"
    )
    parser.add_argument("--channels", type=positive, default=512, help="channels of the head")
    add_timing_arguments(parser, num_repeats=5)


def run(args: argparse.Namespace) -> None:
    if find_spec("transformers") is None:
        raise SettingsError("the package transformers, to compare with, is not installed: pip install transformers")
    print(f"UPerNet's head, {args.channels} channels, {args.size} x {args.size}, {args.threads} thread(s), float32")
    print(f"{'':20}{'ms':>12}{'peak MiB':>12}{'faster':>12}")
    sizes = args.size, args.width, args.channels
    results = measure(
        [Contestant(kind, partial(_step, kind, *sizes), args.threads) for kind in KINDS], args.repeats, ""
    )
    for kind, result in zip(KINDS, results, strict=True):
        ratio = result.times_faster_than(results[0])
        print(f"{kind:20}{1000 * result.median:12.1f}{result.mebibytes:>12}{ratio:11.2f}x", flush=True)


def _step(kind: str, size: int, width: int, channels: int) -> Callable[[], Any]:
    torch.manual_seed(0)
    widths = [width * 2**level for level in range(len(STRIDES))]
    maps = [
        torch.randn(1, number, size // stride, size // stride) for number, stride in zip(widths, STRIDES, strict=True)
    ]
    model = build(kind, widths, channels)

    def step() -> None:
        with torch.inference_mode():
            model(maps)

    return step


def build(kind: str, widths: list[int], channels: int) -> nn.Module:
    """The head of this kind, for maps of these channels."""
    if kind == "ours":
        return UPerHead(widths, NUM_CLASSES, channels).eval()
    from transformers import UperNetConfig
    from transformers.models.upernet.modeling_upernet import UperNetHead

    return UperNetHead(UperNetConfig(hidden_size=channels, num_labels=NUM_CLASSES), widths).eval()
