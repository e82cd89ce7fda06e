"""Networks side by side, as papers print them: size, operations, images or clips per second, inference memory."""

import argparse
from functools import partial

import torch

from models import create_model, list_models
from tools.benchmarks.devices import device_name
from tools.benchmarks.model import Case, count_flops, input_shape, make_step
from tools.benchmarks.timing import Contestant, Measured, add_timing_arguments, measure
from tools.common.arguments import positive

HELP = """A table of networks as papers print it: parameters, operations, and for each device the images (or clips)
per second in evaluation, the operations per second, two for each multiply-add, and the memory that inference adds.

With --in-turns, all networks are in memory at once and take turns step by step, so that rows can be compared on a
machine that also does other work.

With --views N, N forward views count as one image or clip, as in multi-crop tests (30 for 10 clips x 3 crops).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    both = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("names", nargs="+", metavar="NAME", help="model names, or patterns: 'eat_*'")
    parser.add_argument("--views", type=positive, default=1, help="views of each image or clip")
    parser.add_argument("--batch", type=positive, default=4, help="batch size, in views")
    parser.add_argument("--size", type=positive, help="height and width in pixels (default: the model's own)")
    parser.add_argument("--devices", nargs="+", type=device_name, default=both, metavar="DEVICE", help=" ".join(both))
    parser.add_argument("--precision", choices=["float32", "bf16", "fp16"], default="float32")
    parser.add_argument("--compile", action="store_true", help="measure the models compiled by torch.compile")
    parser.add_argument("--in-turns", action="store_true", help="measure all networks in turns, step by step")
    add_timing_arguments(parser, num_repeats=5)


def run(args: argparse.Namespace) -> None:
    names = [name for pattern in args.names for name in (list_models(pattern) or [pattern])]
    with torch.device("meta"):
        for name in names:  # before any is measured: a name that does not exist is an error
            create_model(name)
    threads = "1 CPU thread" if args.threads == 1 else f"{args.threads} CPU threads"
    views = "" if args.views == 1 else f", {args.views} views of each"
    print(f"batch {args.batch}, {args.precision}, channels last, {threads}{views}\n")
    units = ("items/s", "GFLOP/s", "MiB")
    columns = [f"{device} {unit}" for device in args.devices for unit in units]
    print(f"| network | parameters | GMACs | input | {' | '.join(columns)} |\n|{'---|' * (4 + len(columns))}")
    for group in [names] if args.in_turns else [[name] for name in names]:
        measured = [_measure(group, device, args) for device in args.devices]
        for name, *results in zip(group, *measured, strict=True):
            print(f"| {' | '.join(_row(name, results, args))} |", flush=True)


def _row(name: str, results: list[Measured], args: argparse.Namespace) -> list[str]:
    with torch.device("meta"):
        model = create_model(name)
    shape = _shape(name, args)
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    num_flops = count_flops(model, shape[1:])
    row = [f"`{name}`", f"{size:.1f} M", f"{num_flops / 2e9:.2f}", "x".join(map(str, shape[2:]))]
    for result in results:
        views_per_second = args.batch / result.median
        speed = f"{num_flops * views_per_second / 1e9:.1f}"
        row += [f"{views_per_second / args.views:.3g}", speed, result.mebibytes]
    return row


def _shape(name: str, args: argparse.Namespace) -> tuple[int, ...]:
    return input_shape(name, args.batch, None, args.size)


def _measure(names: list[str], device: str, args: argparse.Namespace) -> list[Measured]:
    options = device, args.precision, args.compile, False
    cases = [Case(name, "evaluation", "channels_last", _shape(name, args), *options) for name in names]
    contestants = [Contestant(case.name, partial(make_step, case), args.threads, device) for case in cases]
    return measure(contestants, args.repeats, names[0] if len(names) == 1 else "networks in turns")
