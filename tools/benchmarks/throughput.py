"""Networks side by side, as papers print them: size, operations, images or clips per second, inference memory."""

import argparse
from functools import partial

import torch

from models import create_model, list_models
from tools.benchmarks.model import Case, count_flops, input_shape, make_step
from tools.benchmarks.timing import Contestant, Measured, measure

HELP = """A table of networks as papers print it: parameters, operations, and for each device the images (or clips)
per second in evaluation and the memory that inference adds.

With --views N, N forward views count as one image or clip, as in multi-crop tests (30 for 10 clips x 3 crops).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    both = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("names", nargs="+", metavar="NAME", help="names of models.list_models(), or patterns: 'eat_*'")
    parser.add_argument("--views", type=int, default=1, help="views of each image or clip")
    parser.add_argument("--batch", type=int, default=4, help="batch size, in views")
    parser.add_argument("--size", type=int, help="height and width in pixels (default: the model's own)")
    parser.add_argument("--devices", nargs="+", default=both, metavar="DEVICE", help=" ".join(both))
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--precision", choices=["float32", "bf16", "fp16"], default="float32")
    parser.add_argument("--compile", action="store_true", help="measure the models compiled by torch.compile")
    parser.add_argument("--repeats", type=int, default=5, help="measured steps of each")


def run(args: argparse.Namespace) -> None:
    names = [name for pattern in args.names for name in (list_models(pattern) or [pattern])]
    threads = "1 CPU thread" if args.threads == 1 else f"{args.threads} CPU threads"
    views = "" if args.views == 1 else f", {args.views} views of each"
    print(f"batch {args.batch}, {args.precision}, channels last, {threads}{views}\n")
    columns = [text for device in args.devices for text in (f"{device} items/s", f"{device} MiB")]
    print(f"| network | parameters | GMACs | input | {' | '.join(columns)} |\n|{'---|' * (4 + len(columns))}")
    for name in names:
        with torch.device("meta"):
            model = create_model(name)
        shape = input_shape(name, args.batch, None, args.size)
        size = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) / 1e6
        row = [
            f"`{name}`",
            f"{size:.1f} M",
            f"{count_flops(model, shape[1:]) / 2e9:.2f}",
            "x".join(map(str, shape[2:])),
        ]
        for device in args.devices:
            result = _measure(name, shape, device, args)
            row += [f"{args.batch / result.median / args.views:.3g}", result.mebibytes]
        print(f"| {' | '.join(row)} |", flush=True)


def _measure(name: str, shape: tuple[int, ...], device: str, args: argparse.Namespace) -> Measured:
    case = Case(name, "evaluation", "channels_last", shape, device, args.precision, args.compile, keep_memory=False)
    return measure([Contestant(name, partial(make_step, case), args.threads, device)], args.repeats, name)[0]
