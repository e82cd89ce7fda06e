"""Converts boxes in Pascal VOC's XML, or PNGs with a value for each object, to a file in COCO format.

    python tools/make_coco.py voc Annotations --images JPEGImages --list ImageSets/Main/train.txt -o train.json
    python tools/make_coco.py instances masks --images images --suffix _mask --category person -o all.json
    python tools/make_coco.py instances masks --images images --category person --every 5 -o train.json --rest val.json

A recipe then takes the file as its list, and the folder of the images as its root.
"""

import argparse
import json
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from settings import SettingsError
from tools.common.arguments import parse_arguments
from tools.common.errors import clear_errors
from tools.common.output_files import check_outputs, check_replaces_text

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=("voc", "instances"), help="XML files with boxes, or PNGs with objects")
    parser.add_argument("source", type=Path, help="folder of the XML or PNG files")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="folder of the images")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="JSON file to write")
    parser.add_argument("--list", type=Path, metavar="FILE", help="voc: the files to use, one name per line")
    parser.add_argument("--class-names", type=Path, metavar="TABLE", help="voc: classes (default: all that occur)")
    parser.add_argument("--category", default="object", metavar="NAME", help="instances: name of the class")
    parser.add_argument("--suffix", default="", help="instances: suffix of the PNGs' names, such as _mask")
    parser.add_argument("--every", type=int, metavar="N", help="put every N-th image into the file of --rest")
    parser.add_argument("--rest", type=Path, metavar="FILE", help="JSON file of those images, for validation")
    args = parse_arguments(parser, argv)
    if (args.every is None) != (args.rest is None) or (args.every is not None and args.every < 2):
        parser.error("--every N and --rest FILE go together, and N must be at least 2")

    from datasets.class_table import read_class_names  # imports torch: too slow for --help
    from datasets.dense.convert import coco_from_instances, coco_from_voc, split_content
    from datasets.text_files import existing_path, numbered_lines

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    outputs = [path for path in (args.output, args.rest) if path is not None]
    inputs = [args.list, args.class_names, *args.source.expanduser().glob("*.xml")]
    check_outputs([(path, "choose another one with -o or --rest") for path in outputs], inputs, check_replaces_text)
    try:
        source, images = (existing_path(path.expanduser(), "folder") for path in (args.source, args.images))
        if args.form == "voc":
            lines = [line.strip() for _, line in numbered_lines(args.list)] if args.list else []
            # VOC's lists for one class state after each name whether the class is present
            names = [line if (source / f"{line}.xml").exists() else re.sub(r"\s+-?[01]$", "", line) for line in lines]
            classes = read_class_names(args.class_names) if args.class_names else None
            content = coco_from_voc(source, images, names if args.list else None, classes)
        else:
            content = coco_from_instances(source, images, args.category, args.suffix)
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from error
    parts = [content]
    if args.rest:
        rows = range(len(content["images"]))
        if len(rows) < args.every:
            raise SettingsError(f"--every {args.every} leaves none of the {len(rows)} images for --rest; set it lower")
        parts = [
            split_content(content, [row for row in rows if (row % args.every == args.every - 1) == is_rest])
            for is_rest in (False, True)
        ]
    for path, part in zip(outputs, parts, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(part))
        log.info("%s: %d images, %d objects, %d classes", path, *(len(part[name]) for name in part))
    log.info("in a recipe: data.train=%s data.root=%s", args.output, args.images)


if __name__ == "__main__":
    clear_errors(main)
