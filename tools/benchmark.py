"""Benchmarks for reading videos, networks, graphs and training steps.

    python tools/benchmark.py data [FILES ...]
    python tools/benchmark.py recipes [FILES ...]
    python tools/benchmark.py model NAME
    python tools/benchmark.py throughput NAME [NAME ...]
    python tools/benchmark.py graph
    python tools/benchmark.py dense_graph [NAME]
    python tools/benchmark.py detector
    python tools/benchmark.py upernet
    python tools/benchmark.py reasoning
    python tools/benchmark.py step [NAME]
    python tools/benchmark.py latency [NAME]
    python tools/benchmark.py acceleration NAME

`data` compares our video reader with decord, OpenCV and torchcodec. `recipes` compares ways to re-encode videos.
`model` measures the cost of a network, and `throughput` prints a table of networks like those in papers. `graph`
measures message passing on grids and on edge lists, `dense_graph` EurNet's backbone for dense prediction. `detector`
compares our Mask R-CNN with torchvision's, `upernet` our UPerNet head with that of transformers, `reasoning` networks
for knowledge graphs. `step` measures what a training step costs beyond its network. `latency` times a prediction stage
by stage, from video file to labels; `acceleration` times a network in other runtimes than PyTorch's eager mode.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from settings import SettingsError
from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors

BENCHMARKS = (
    "data",
    "recipes",
    "model",
    "throughput",
    "graph",
    "dense_graph",
    "detector",
    "upernet",
    "reasoning",
    "step",
    "latency",
    "acceleration",
)  # modules in tools/benchmarks; each has HELP, add_arguments(parser) and run(args)


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=BENCHMARKS, help="what to measure; `data --help` lists its options")
    name = parser.parse_args(argv[:1]).benchmark
    module = importlib.import_module(f"tools.benchmarks.{name}")
    parser = argparse.ArgumentParser(
        prog=f"benchmark.py {name}", description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    args = parse_arguments(parser, argv[1:])
    try:
        module.run(args)
    except (OSError, ValueError) as error:  # a missing file, or a name or size that the network does not accept
        raise SettingsError(str(error)) from error


if __name__ == "__main__":
    clear_errors(main)
