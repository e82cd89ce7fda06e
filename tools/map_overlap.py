"""Measures how well a network's maps follow the shapes of the synthetic sets, compared with untrained networks.

    python tools/map_overlap.py --run-dir runs/demo/glore_motion
    python tools/map_overlap.py --run-dir runs/demo/hornet_shapes --layer stages.2 --files 100

Prints a table in Markdown. docs/visualize.md says what is measured.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from settings import SettingsError
from tools.common.arguments import add_run_arguments, parse_arguments, positive
from tools.common.errors import clear_errors


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    parser.add_argument("--layer", metavar="NAME", help="layer for Grad-CAM (the last feature map's)")
    parser.add_argument("--files", type=positive, default=60, metavar="N", help="validation files to measure on (60)")
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="untrained networks to compare with (3)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change")
    args = parse_arguments(parser, argv)
    from explain.overlap import compare, table  # imports torch: too slow for --help
    from inference.trained import load_trained
    from tasks.classification import classifies_pictures

    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    trained = load_trained(
        args.checkpoint, args.overrides, config=args.config, run_dir=args.run_dir, average=args.average
    )
    if not classifies_pictures(type(trained.task)):
        raise SettingsError(
            f"the task is {trained.task.settings.task}; maps are measured only for classification of videos or images"
        )
    print(table(compare(trained.task, trained.model, args.files, args.layer, range(args.seeds))))


if __name__ == "__main__":
    clear_errors(main)
