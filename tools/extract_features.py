"""Writes the features that a trained network computes for videos or images.

    python tools/extract_features.py -o features                        the validation list of the newest run
    python tools/extract_features.py --run-dir runs/demo/glore_motion -o features my_videos/ another.mp4
    python tools/extract_features.py --layer layer3.5 --pool none --level clip -o maps data.val=LIST

By default: the pooled features before the classifier, averaged over the views of each file. A folder means all files in
it; data.val=LIST reads a list or class folders, with labels. An interrupted command continues where it stopped, and the
files are the same to the byte. Status 0: all files were read, 1: some were not (failures.csv), 2: none was.
inference.feature_shards.read_features reads the folder; docs/export.md says what is in it.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from engine.distributed import join_ranks
from engine.run import start_logging
from inference.feature_shards import FORMATS
from inference.features import LEVELS, FeatureOptions, extract_features, files_to_extract
from inference.layer_features import CHANNELS, POOLED, POOLINGS
from inference.trained import TrainedNetwork, find_weights, load_model
from inference.writable import check_writable
from settings import SettingsError
from tasks.classification import Classification
from tools.errors import clear_errors
from tools.loading_runs import add_run_arguments, find_run

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where to write the shards")
    parser.add_argument(
        "--layer", default=POOLED, metavar="NAME", help=f"a module of the network, such as layer3.5 ({POOLED})"
    )
    parser.add_argument(
        "--level", choices=LEVELS, default="video", help="average a file's views, or keep each of them (video)"
    )
    parser.add_argument(
        "--pool", choices=POOLINGS, default="mean", help="average maps and tokens over all but the channels (mean)"
    )
    parser.add_argument(
        "--channels", choices=CHANNELS, default="auto", help="where --pool mean finds the channels of a map (auto)"
    )
    parser.add_argument("--format", choices=FORMATS, default="npz", help="format of the shards (npz)")
    parser.add_argument("--files-per-shard", type=int, metavar="N", help="default: as many as fit 64 MiB")
    parser.add_argument(
        "arguments", nargs="*", metavar="FILE | key=value", help="videos, images or folders, and settings to change"
    )
    args = parser.parse_args(argv)
    if args.files_per_shard is not None and args.files_per_shard < 1:
        parser.error(f"got --files-per-shard {args.files_per_shard}; it must be at least 1")
    overrides = [argument for argument in args.arguments if "=" in argument and not Path(argument).exists()]
    task_class, settings, run = find_run(args, overrides)
    if not issubclass(task_class, Classification):
        raise SettingsError(f"the task {settings.task} has no views to extract features from")
    places = [argument for argument in args.arguments if argument not in overrides]

    with join_ranks(**settings.run.process_options()) as ranks:
        start_logging(ranks)
        ranks.on_main(lambda: check_writable(args.output))
        task = task_class(settings, ranks)
        files = files_to_extract(task, places)
        weights = ranks.on_main(lambda: find_weights(run, args.checkpoint))
        trained = TrainedNetwork(task, load_model(task, weights, ranks, args.average), weights)
        options = FeatureOptions(args.layer, args.level, args.pool, args.channels, args.format, args.files_per_shard)
        extracted = extract_features(trained, files, args.output, options)
    if extracted is None:
        return
    for failure in extracted.failures:
        log.warning("cannot read %s: %s", failure["path"], failure["reason"])
    num_read = extracted.num_files - len(extracted.failures)
    log.info("%s: features of %d of %d %ss", args.output, num_read, extracted.num_files, task.item)
    sys.exit(extracted.status)


if __name__ == "__main__":
    clear_errors(main)
