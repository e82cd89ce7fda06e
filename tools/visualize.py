"""Shows why: Grad-CAM, and what the network computes on its way (nodes, neighbors, clusters, attention, interactions).

    python tools/visualize.py VIDEO                                 with the newest run, to VIDEO's name + .png
    python tools/visualize.py VIDEO -o maps.mp4                     plays the maps; .gif does, too
    python tools/visualize.py IMAGE --run-dir runs/demo/eat_shapes --class star --layer blocks.2
    python tools/visualize.py IMAGE --checkpoint FILE --list-layers
    python tools/visualize.py VIDEO --stage 3 --patch 4,7,2         EurNet: the neighbors of a patch

Settings may be changed as everywhere: evaluation.num_clips=10 --view 7 shows the seventh of ten clips.
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
from explain.explanation import describe_layers, explain, label_of, read_view
from explain.sections import Options
from explain.sheet import check_output, write
from settings import SettingsError
from tasks.classification import Classification
from tools.errors import clear_errors
from tools.loading_runs import add_run_arguments, find_run, find_weights, load_model

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    args = _parse(argv)
    overrides = [argument for argument in args.arguments if "=" in argument and not Path(argument).exists()]
    files = [argument for argument in args.arguments if argument not in overrides]
    if len(files) != 1:
        raise SettingsError(f"got {len(files)} files; visualize.py shows one video or image at a time")
    output = args.output or Path(Path(files[0]).stem + ".png")
    if not args.list_layers:
        check_output(output)
    task_class, settings, run = find_run(args, overrides)
    if not issubclass(task_class, Classification):
        raise SettingsError(f"the task {settings.task} has no classes to explain; visualize.py takes classification")
    with join_ranks(**settings.run.process_options()) as ranks:
        start_logging(ranks)
        task = task_class(settings, ranks)
        model = load_model(task, find_weights(run, args.checkpoint), ranks, args.average)
        x = read_view(task, files[0], args.view)
        if args.list_layers:
            log.info("%s", describe_layers(model, x))
            return
        check_output(output, num_frames=1 if x.dim() == 4 else x.shape[2])
        options = Options(args.maps, args.stage, args.patch)
        explanation = explain(task, model, x, Path(files[0]).name, label_of(task, args.class_name), args.layer, options)
        write(explanation, output, args.fps)
    log.info("%s", explanation.title)
    log.info("%s: %s", output, ", ".join(section.title for section in explanation.sections))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=".png, .gif or .mp4 (the file's name + .png)")
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="the class of Grad-CAM (the predicted one)")
    parser.add_argument("--layer", metavar="NAME", help="the layer of Grad-CAM (that of the last feature map)")
    parser.add_argument("--list-layers", action="store_true", help="print the layers that Grad-CAM can take, and stop")
    parser.add_argument("--view", type=int, default=1, metavar="N", help="which clip or crop of the recipe, from 1 (1)")
    parser.add_argument("--maps", type=int, default=4, metavar="N", help="nodes or slots to show of each unit (4)")
    parser.add_argument("--stage", type=int, metavar="N", help="EurNet: the stage of the patch, from 1")
    parser.add_argument(
        "--patch", type=_patch, metavar="ROW,COL[,FRAME]", help="EurNet: the patch (where Grad-CAM is largest)"
    )
    parser.add_argument("--fps", type=float, default=4, metavar="N", help="frames per second of a GIF or MP4 (4)")
    parser.add_argument("arguments", nargs="+", metavar="FILE | key=value", help="a video or image, and settings")
    args = parser.parse_intermixed_args(argv)
    if args.maps < 1 or not 0.02 <= args.fps <= 100:
        parser.error(f"got --maps {args.maps} and --fps {args.fps:g}; expected at least 1, and 0.02 to 100")
    return args


def _patch(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if len(numbers) not in (2, 3):
        raise ValueError
    return numbers


if __name__ == "__main__":
    clear_errors(main)
