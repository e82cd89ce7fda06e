"""Measures speed: of reading videos, of networks, and of graphs.

    python tools/benchmark.py data [FILES ...]
    python tools/benchmark.py recipes [FILES ...]
    python tools/benchmark.py model NAME
    python tools/benchmark.py throughput NAME [NAME ...]
    python tools/benchmark.py graph
    python tools/benchmark.py step [NAME]

`data` compares our video reader with decord, OpenCV and torchcodec, `recipes` the ways to re-encode videos; `model`
shows what a network costs, `throughput` makes a table of networks as papers print it; `graph` shows what message
passing costs on grids and on lists of edges, `step` what a training step costs beyond its network.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that wait leave the cores to the decoders

from tools.errors import clear_errors

BENCHMARKS = (
    "data",
    "recipes",
    "model",
    "throughput",
    "graph",
    "step",
)  # modules of tools/benchmarks, each with HELP, add_arguments(parser) and run(args)


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=BENCHMARKS, help="what to measure; `data --help` tells its options")
    name = parser.parse_args(argv[:1]).benchmark
    module = importlib.import_module(f"tools.benchmarks.{name}")
    parser = argparse.ArgumentParser(
        prog=f"benchmark.py {name}", description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    module.run(parser.parse_args(argv[1:]))


if __name__ == "__main__":
    clear_errors(main)
