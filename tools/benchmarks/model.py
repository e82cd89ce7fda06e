"""What a model costs: parameters, operations, speed and memory, in each memory layout."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from engine.allocator import keep_freed_memory
from engine.precision import autocast, place_model
from models import create_model, model_info
from tools.benchmarks.devices import add_device
from tools.benchmarks.timing import Contestant, add_timing_arguments, measure
from tools.common.arguments import positive

HELP = """What a model costs: parameters, operations, clips (or images) per second, and peak memory.

A training step is forward, backward and an SGD update. Memory is the peak that a run adds: weights, activations,
gradients and the optimizer's state; on a CPU the growth of the process (Linux only), on a GPU what PyTorch allocated.
"""

LAYOUTS = ("contiguous", "channels_last")
MODES = ("evaluation", "training")


@dataclass(frozen=True)
class Case:
    """What one contestant runs."""

    name: str
    mode: str
    layout: str
    input_shape: tuple[int, ...]  # [B, 3, T, H, W], or [B, 3, H, W] for images
    device: str
    precision: str
    compile: bool
    keep_memory: bool

    @property
    def title(self) -> str:
        return f"{self.layout}{', kept' if self.keep_memory else ''}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a name of models.list_models()")
    parser.add_argument("--frames", type=positive, help="frames of a clip (default: the model's own)")
    parser.add_argument("--size", type=positive, help="height and width in pixels (default: the model's own)")
    parser.add_argument("--batch", type=positive, default=4, help="batch size")
    add_device(parser)
    parser.add_argument("--precision", choices=["float32", "bf16", "fp16"], default="float32")
    parser.add_argument(
        "--layout", choices=[*LAYOUTS, "both"], default="both", help="memory layout of weights and activations"
    )
    parser.add_argument("--compile", action="store_true", help="measure the model compiled by torch.compile")
    parser.add_argument(
        "--freed-memory",
        choices=["returned", "kept", "both"],
        default="returned",
        help="kept: as run.keep_memory does on a CPU (returned to the kernel)",
    )
    add_timing_arguments(parser, num_repeats=7)


def run(args: argparse.Namespace) -> None:
    with torch.device("meta"):
        model = create_model(args.name)
    shape = input_shape(args.name, args.batch, args.frames, args.size)
    num_flops = count_flops(model, shape[1:])
    print(f"{args.name}, input {' x '.join(map(str, shape[1:]))}, batch {args.batch}")
    print(f"parameters  {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M")
    print(f"operations  {num_flops / 1e9:.2f} GFLOPs = {num_flops / 2e9:.2f} GMACs (which papers call GFLOPs)")
    print(f"device      {describe_device(args)}\n")

    kept = {"returned": (False,), "kept": (True,), "both": (False, True)}[args.freed_memory]
    layouts = LAYOUTS if args.layout == "both" else (args.layout,)
    unit = "clips/s" if len(shape) == 5 else "images/s"
    print(f"{'':12}{'':20}{unit:>12}{'ms/step':>12}{'peak MiB':>12}{'faster':>12}")
    for mode in MODES:
        options = (args.device, args.precision, args.compile)
        cases = [Case(args.name, mode, layout, shape, *options, keep) for layout in layouts for keep in kept]
        contestants = [Contestant(case.title, partial(make_step, case), args.threads, args.device) for case in cases]
        results = measure(contestants, args.repeats, mode)
        for case, result in zip(cases, results, strict=True):
            ratio = result.times_faster_than(results[0])
            print(
                f"{mode:12}{case.title:20}{args.batch / result.median:12.2f}{1000 * result.median:12.1f}"
                f"{result.mebibytes:>12}{ratio:11.2f}x"
            )


def input_shape(name: str, batch: int, frames: int | None, size: int | None) -> tuple[int, ...]:
    """[B, 3, T, H, W] or [B, 3, H, W]: the model's own input shape, with `frames` and `size` where they are given."""
    channels, *time, height, width = model_info(name).input_shape
    if frames and not time:
        raise ValueError(f"{name} takes images: --frames={frames} does not apply")
    return (batch, channels, *([frames or time[0]] if time else []), size or height, size or width)


def count_flops(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Operations of one forward pass, two for each multiply-add, for a `model` on the meta device."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, *shape))
    return counter.get_total_flops()


def describe_device(args: argparse.Namespace) -> str:
    where = torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else args.device
    threads = "1 thread" if args.threads == 1 else f"{args.threads} threads"
    return f"{where}, {threads}, {args.precision}{', compiled' if args.compile else ''}"


def make_step(case: Case) -> Callable[[], None]:
    """A function that runs one batch of the case: forward only, or a whole training step."""
    if case.keep_memory:
        keep_freed_memory()
    device = torch.device(case.device)
    channels_last = case.layout == "channels_last"
    model = place_model(create_model(case.name), device, channels_last).train(case.mode == "training")
    x = torch.randn(case.input_shape, device=device)
    if channels_last:
        x = x.to(memory_format=torch.channels_last_3d if x.dim() == 5 else torch.channels_last)
    forward = torch.compile(model) if case.compile else model
    if case.mode == "evaluation":

        def evaluate():
            with torch.inference_mode(), autocast(case.precision, device):
                forward(x)

        return evaluate

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True)

    def train():
        with autocast(case.precision, device):
            loss = _some_loss(forward(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return train


def _some_loss(outputs: torch.Tensor | tuple) -> torch.Tensor:
    """Cross entropy with the first class, summed over all logits [..., num_classes] that a network returns."""
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    logits = [part.float() for part in parts if isinstance(part, torch.Tensor)]
    return sum((part.logsumexp(-1) - part[..., 0]).mean() for part in logits)
