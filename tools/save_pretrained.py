"""Writes a trained network to a folder to share, in the layout of the Hugging Face hub, with a model card.

    python tools/save_pretrained.py runs/demo/glore_motion shared/glore_motion --license cc-by-4.0
    python tools/save_pretrained.py runs/demo/glore_motion/checkpoints/last.pt shared/glore_motion_last

The folder gets config.json, model.safetensors and README.md: a card with the scores, protocol and coverage of the run's
reports, its data, recipe and classes. Nothing is uploaded. docs/sharing.md says how to load the folder.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="RUN", help="a run directory, or a weight file of a run")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to write; its name is the card's title")
    parser.add_argument("--license", default="unknown", metavar="ID", help="license of the weights, such as mit")
    parser.add_argument("--average", action="store_true", help="use the averaged weights if the file has both")
    parser.add_argument("--overwrite", action="store_true", help="replace a model in FOLDER")
    args = parse_arguments(parser, argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    from inference import save_pretrained  # imports torch: too slow for --help

    options = {"license": args.license, "overwrite": args.overwrite, "average": args.average}
    print(save_pretrained(args.source, args.folder, **options))


if __name__ == "__main__":
    clear_errors(main)
