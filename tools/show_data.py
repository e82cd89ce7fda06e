"""Shows what a network sees: samples before and after their transforms, with labels and ids.

    python tools/show_data.py configs/demo/glore_motion.yaml
    python tools/show_data.py configs/demo/eurnet_shapes.yaml --count 12 data.train_view.color_jitter=0

Takes the first samples of a run of the recipe, exactly as the first step of a single process gets them, and writes
these files to the output folder:
  train.png    frames of the files, and the network's input: cropped, color-augmented, mixed; with boxes and masks
  train.gif    the same as an animation
  val.png      all views of validation files, of as many classes as there is room for
  classes.png  files, objects or pixels per class; for training files also how often they are seen per epoch
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from tools.common.arguments import parse_arguments, positive, positive_number
from tools.common.errors import clear_errors


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", metavar="RECIPE", help="a recipe below configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change: data.repeats=2")
    parser.add_argument("--count", type=positive, default=8, metavar="N", help="samples to show (8)")
    parser.add_argument("--fps", type=positive_number, default=4, metavar="N", help="frames per second of the GIF (4)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder to write (pictures/ plus the recipe's name)"
    )
    args = parse_arguments(parser, argv)

    from tools.pictures.data_pictures import show_data  # imports torch: too slow for --help

    show_data(args.config, args.overrides, args.output, args.count, args.fps)


if __name__ == "__main__":
    clear_errors(main)
