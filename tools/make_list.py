"""Writes the list file and the mapping table of a data set in one of the common layouts.

    python tools/make_list.py folder VIDEOS -o lists/train.txt                    VIDEOS/<class>/*.mp4
    python tools/make_list.py kinetics400 VIDEOS --annotations train.csv -o lists/kinetics_train.txt
    python tools/make_list.py ucf101 VIDEOS --annotations ucfTrainTestlist/trainlist01.txt -o lists/ucf_train1.txt
    python tools/make_list.py hmdb51 VIDEOS --annotations testTrainMulti_7030_splits --split train1 -o lists/hmdb.txt
    python tools/make_list.py something_v2 VIDEOS --annotations train.json -o lists/something_train.txt
    python tools/make_list.py charades VIDEOS --annotations Charades_v1_train.csv --drop-unlabeled \\
        -o lists/charades_train.txt
    python tools/make_list.py fights VIDEOS --annotations videos.txt -o lists/fights.txt
    python tools/make_list.py moments VIDEOS --annotations trainingSet.csv -o lists/moments_train.txt

Images need no list: recipes read class folders, such as those of CIFAR-10, and CamVid's folders as they are. For boxes
in VOC format, see tools/make_coco.py. For fights, groups.txt beside the list names the recording of each clip: with
data.fold_groups, clips of one recording stay together in folds and held-out fractions.

The table is mapping_table.txt beside the list. Make the training list first, and give its table to the others, so that
classes have the same numbers: --class-names lists/mapping_table.txt. A video with none of the classes cannot be used
for training and is not scored; --drop-unlabeled drops such videos. Videos missing below VIDEOS stay in the list, so
that an evaluation counts them; --drop-missing drops them.
"""

import argparse
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

LAYOUTS = (
    *("folder", "kinetics400", "kinetics600", "kinetics700", "ucf101", "hmdb51", "something_v2", "charades"),
    *("fights", "moments"),
)
"""The keys of `datasets.video.layouts.LAYOUTS`, whose module imports torch."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layout", choices=LAYOUTS, help="the data set's layout")
    parser.add_argument("root", type=Path, help="folder with the videos")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="LIST", help="list file to write")
    parser.add_argument("--annotations", type=Path, metavar="FILE", help="the layout's annotations, file or folder")
    parser.add_argument("--split", help="keep only this split, if the annotations have several")
    parser.add_argument("--class-names", type=Path, metavar="TABLE", help="number the classes by this mapping table")
    parser.add_argument("--table", type=Path, help="mapping table to write (default: mapping_table.txt beside it)")
    parser.add_argument("--drop-missing", action="store_true", help="drop videos that do not exist")
    parser.add_argument("--drop-unlabeled", action="store_true", help="drop videos without a class")
    args = parse_arguments(parser, argv)

    # These import torch: too slow for --help.
    from datasets.video.layouts import read_layout, write_list, write_sources, write_table

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    table = args.table or args.output.with_name("mapping_table.txt")
    groups = args.output.with_name("groups.txt")
    _check_outputs(args, table, groups)
    try:
        found, missing = read_layout(args.layout, args.root, args.annotations, args.split, args.class_names)
        videos = found.videos
        if args.drop_missing:
            absent = set(missing)
            videos = [video for video in videos if video not in absent]
        if args.drop_unlabeled:
            labeled = [video for video in videos if video.labels]
            log.info("dropped %d of %d videos, which have no class", len(videos) - len(labeled), len(videos))
            videos = labeled
        if len(missing) == len(found.videos):
            raise ValueError(f"none of its {len(missing)} videos is below {args.root}; is this the right folder?")
        if found.sources:
            _check_same_recordings(groups, args.annotations, set(found.sources.values()))
        if found.class_names:
            write_table(table, found.class_names)
        ids = write_list(args.output, videos)
        if found.sources:
            named = {name: found.sources.get(video.id) for name, video in zip(ids, videos, strict=True)}
            sources = {name: source for name, source in named.items() if source is not None}
            write_sources(groups, sources)
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from error
    if missing:
        what = "are dropped" if args.drop_missing else "stay in the list and will count as unreadable"
        examples = ", ".join(video.id for video in missing[:3])
        log.warning(
            "%d of %d videos are missing, for example %s; they %s", len(missing), len(found.videos), examples, what
        )
    classes = f"{table}: {len(found.class_names)} classes" if found.class_names else "none has a class"
    log.info("%s: %d videos; %s", args.output, len(videos), classes)
    if found.sources:
        log.info("data.fold_groups=%s: %d recordings", groups, len(set(sources.values())))
    if found.class_names:
        words = re.findall("[a-z]+", args.output.stem.lower())
        is_training = any(word.startswith("train") for word in words)
        split = "val" if not is_training and any(word.startswith(("val", "test")) for word in words) else "train"
        log.info("in a recipe: data.%s=%s data.root=%s data.class_names=%s", split, args.output, args.root, table)


def _check_outputs(args: argparse.Namespace, table: Path, groups: Path) -> None:
    outputs = [(args.output, "choose another one with -o"), (table, "choose another one with --table")]
    if args.layout == "fights":
        outputs.append((groups, "choose another folder with -o"))
    annotations = args.annotations and args.annotations.expanduser()
    inputs = [annotations, args.class_names]
    if annotations and annotations.is_dir():
        inputs += annotations.iterdir()
    check_outputs(outputs, inputs, check_replaces_text)


def _check_same_recordings(groups: Path, annotations: Path, recordings: set[str]) -> None:
    """Raises ValueError if there is a table of recordings already that was not made from these annotations."""
    from datasets.text_files import read_text

    if groups.exists() and {line.partition("\t")[2] for line in read_text(groups).splitlines()} - recordings:
        raise ValueError(
            f"{groups} exists with recordings that are not in {annotations}; move it away, or choose another folder "
            "with -o"
        )


if __name__ == "__main__":
    clear_errors(main)
