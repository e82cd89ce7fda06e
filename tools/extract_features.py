"""Writes the features that a network computes for videos or images.

    python tools/extract_features.py -o features                        the validation list of the newest run
    python tools/extract_features.py --run-dir runs/demo/glore_motion -o features my_videos/ another.mp4
    python tools/extract_features.py --layer conv4 --pool none --level clip -o maps data.val=LIST
    python tools/extract_features.py -c RECIPE model.name=timm/NAME --pretrained FILE -o frozen     without training

By default, writes the pooled features before the classifier, averaged over the views of each file. A folder means all
files in it; data.val=LIST reads a list or class folders, with labels. --pretrained loads weights trained on other
classes, a library's or the authors'; tools/probe_features.py scores features. After an interruption the same command
continues, and writes the same bytes as without one. Exit status: 0 if all files were read, 1 if some were not (see
failures.csv), 2 if none was. inference.feature_shards.read_features reads the folder; docs/export.md describes it.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from tools.common.arguments import add_run_arguments, parse_arguments, positive, split_arguments
from tools.common.errors import clear_errors
from tools.common.output_files import check_folder

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    args = read_arguments(argv)
    # These import torch: too slow for --help.
    from engine.distributed import join_ranks
    from engine.run import start_logging
    from inference.features import FeatureOptions, check_task, extract_features, files_to_extract
    from inference.trained import TrainedNetwork, find_weights, load_backbone, load_model
    from tools.common.loading_runs import find_run
    from weight_reader import file_at

    task_class, settings, run = find_run(args, args.overrides)
    check_task(task_class, settings)
    with join_ranks(**settings.run.process_options()) as ranks:
        start_logging(ranks)
        ranks.on_main(lambda: check_folder(args.output, "choose another folder with -o"))
        task = task_class(settings, ranks)
        files = files_to_extract(task, args.places)
        if args.pretrained:
            weights = file_at(args.pretrained)
            model = load_backbone(task, weights, ranks)
        else:
            weights = ranks.on_main(lambda: find_weights(run, args.checkpoint))
            model = load_model(task, weights, ranks, args.average)
        trained = TrainedNetwork(task, model, weights)
        options = FeatureOptions(args.layer, args.level, args.pool, args.channels, args.format, args.files_per_shard)
        extracted = extract_features(trained, files, args.output, options)
    if extracted is None:
        return
    for failure in extracted.failures:
        log.warning("cannot read %s: %s", failure["path"], failure["reason"])
    num_read = extracted.num_files - len(extracted.failures)
    log.info("%s: features of %d of %d %ss", args.output, num_read, extracted.num_files, task.item)
    if extracted.status:
        sys.exit(extracted.status)


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    parser.add_argument(
        "--pretrained", type=Path, metavar="FILE", help="weights to use instead of a run's, without their classifier"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where to write the shards")
    parser.add_argument(
        "--layer", default="pooled", metavar="NAME", help="a module of the network, such as conv4 (default: pooled)"
    )
    parser.add_argument(
        "--level", choices=("video", "clip"), default="video", help="average a file's views, or keep each (video)"
    )
    parser.add_argument(
        "--pool", choices=("mean", "none"), default="mean", help="average maps over all but the channels, or not (mean)"
    )
    parser.add_argument(
        "--channels", choices=("auto", "first", "last"), default="auto", help="position of the channels in a map (auto)"
    )
    parser.add_argument("--format", choices=("npz", "safetensors"), default="npz", help="format of the shards (npz)")
    parser.add_argument("--files-per-shard", type=positive, metavar="N", help="default: as many as fit in 64 MiB")
    parser.add_argument(
        "arguments", nargs="*", metavar="FILE | key=value", help="videos, images or folders, and settings to change"
    )
    args = parse_arguments(parser, argv)
    if args.pretrained is not None and (args.checkpoint is not None or args.average):
        parser.error("--pretrained replaces --checkpoint and --average; give one or the other")
    args.overrides, args.places = split_arguments(args.arguments)
    return args


if __name__ == "__main__":
    clear_errors(main)
