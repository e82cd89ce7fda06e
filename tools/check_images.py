"""Finds faults in detection and segmentation data sets, and in plain folders and lists of images.

    python tools/check_images.py instances_train.json --root train        boxes and masks in COCO format
    python tools/check_images.py IMAGES --labels LABELS --num-classes 11  images and label maps in parallel folders
    python tools/check_images.py list.txt --num-classes 11                lines `image label_map`
    python tools/check_images.py ADE20K --split train                     the layout of ADE20K or of Cityscapes
    python tools/check_images.py IMAGES                                   can every image be read?
    python tools/check_images.py train.txt --root IMAGES                  the same, of lines `id label path`

Reads every image. Reports images that are missing, damaged, listed twice, not of the stated size, or nearly black
because they use a fraction of 16 bits; boxes that are degenerate, outside their image or not around their mask; invalid
polygons and run lengths; label maps of the wrong size or kind, or with values out of range. SOURCE.checked.csv gets a
row for each image, and one for each fault of a COCO file that belongs to no image. Exit status: 0, or 1 if there is a
fault.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from datasets.worker_pool import default_num_workers
from tools.common.arguments import parse_arguments, positive, positive_number
from tools.common.errors import clear_errors


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="COCO json, list of images and label maps, or folder")
    parser.add_argument("--root", type=Path, help="folder that paths are relative to (default: the source's own)")
    parser.add_argument("--labels", type=Path, metavar="DIR", help="folder of the label maps")
    parser.add_argument("--split", help="train or val, of ADE20K and Cityscapes")
    parser.add_argument("--num-classes", type=int, metavar="N", help="number of classes of the label maps")
    parser.add_argument("--class-names", type=Path, metavar="TABLE", help="class table of the label maps")
    parser.add_argument("--ignored-label", type=int, metavar="N", help="label-map value to ignore")
    parser.add_argument("--table", type=Path, help="table to write (default: SOURCE.checked.csv)")
    parser.add_argument(
        "--workers", type=positive, default=default_num_workers(1), metavar="N", help="number of processes"
    )
    parser.add_argument(
        "--timeout", type=positive_number, default=120, metavar="SECONDS", help="limit for one image (120)"
    )
    args = parse_arguments(parser, argv)

    from tools.preparation.image_checks import check_images  # imports torch: too slow for --help

    if not check_images(args):
        sys.exit(1)


if __name__ == "__main__":
    clear_errors(main)
