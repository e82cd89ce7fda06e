"""Evaluates a trained network on the validation set of a recipe. Every item counts exactly once.

    python tools/evaluate.py                                        the newest run, with its own recipe
    python tools/evaluate.py --run-dir runs/demo/glore_motion --checkpoint last
    python tools/evaluate.py -c configs/kinetics/glore_resnet50_8x8.yaml --checkpoint FILE evaluation.num_clips=10

FILE is a checkpoint of this suite or a file that the authors released. The report is written to `evaluations/` in the
run directory.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from tools.common.arguments import add_run_arguments, parse_arguments
from tools.common.errors import clear_errors


def main(
    argv: Sequence[str] | None = None,
    presets: Sequence[str] = (),
    description: str | None = __doc__,
    task: str | None = None,
) -> None:
    """`presets` are overrides that the command line can override. Recipes for any task but `task` are rejected."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change, such as data.val=LIST")
    args = parse_arguments(parser, argv)

    from engine.distributed import join_ranks  # imports torch: too slow for --help
    from engine.run import start_logging
    from engine.signals import StopSignals
    from tools.common.loading_runs import find_run, report

    task_class, settings, run = find_run(args, [*presets, *args.overrides], task)
    with join_ranks(**settings.run.process_options()) as ranks, StopSignals() as stop, stop.interruptible():
        start_logging(ranks)
        report(task_class(settings, ranks), run, args.checkpoint, ranks, args.average)


if __name__ == "__main__":
    clear_errors(main)
