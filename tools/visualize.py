"""Shows why a class is predicted: Grad-CAM, and maps of nodes, neighbors, clusters, attention or interactions.

    python tools/visualize.py VIDEO                                 with the newest run, to VIDEO's name + .png
    python tools/visualize.py VIDEO -o maps.mp4                     plays the maps; .gif works, too
    python tools/visualize.py IMAGE --run-dir runs/demo/eat_shapes --class star --layer blocks.2
    python tools/visualize.py IMAGE --checkpoint FILE --list-layers
    python tools/visualize.py VIDEO --stage 3 --patch 4,7,2         EurNet: the neighbors of a patch

Settings can be changed as in all scripts: with evaluation.num_clips=10, --view 7 shows the seventh of ten clips.
docs/visualize.md says what the maps are and which layer to choose.
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
from tools.common.arguments import add_run_arguments, parse_arguments, positive, split_arguments
from tools.common.errors import clear_errors
from tools.common.output_files import check_file, check_keeps_inputs

log = logging.getLogger(__name__)


OTHER_PICTURES = {
    "detection": "tools/predict.py --output draws what it finds",
    "segmentation": "tools/predict.py --output draws what it finds",
    "skeleton_action": "tools/show_data.py draws the skeletons that it sees",
    "link_prediction": "tools/explain.py draws the paths behind its answers",
}
"""What to use instead for tasks that do not classify an image or clip."""


def main(argv: Sequence[str] | None = None) -> None:
    args = _parse(argv)
    from explain.explanation import (  # imports torch: too slow for --help
        describe_layers,
        explain,
        label_of,
        read_view,
    )
    from explain.sections import Options
    from explain.sheet import check_format, write
    from inference.trained import load_trained
    from tasks.classification import classifies_pictures

    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    if not args.list_layers:
        check_format(args.output)
        check_file(args.output, "choose another one with -o")
        check_keeps_inputs(args.output, [args.file], "choose another one with -o")
    trained = load_trained(
        args.checkpoint, args.overrides, config=args.config, run_dir=args.run_dir, average=args.average
    )
    task, model = trained.task, trained.model
    if not classifies_pictures(type(task)):
        name = task.settings.task
        instead = OTHER_PICTURES.get(name)
        raise SettingsError(
            f"visualize.py explains the class of an image or clip, and this network is for {name}"
            + (f"; {instead}" if instead else "")
        )
    x = read_view(task, args.file, args.view)
    if args.list_layers:
        log.info("%s", describe_layers(model, x))
        return
    check_format(args.output, num_frames=1 if x.dim() == 4 else x.shape[2])
    label, options = label_of(task, args.class_name), Options(args.maps, args.stage, args.patch)
    explanation = explain(task, model, x, Path(args.file).name, label, args.layer, options)
    write(explanation, args.output, args.fps)
    log.info("%s", explanation.summary)
    log.info("%s: %s", args.output, ", ".join(section.title for section in explanation.sections))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=".png, .gif or .mp4 (the file's name + .png)")
    parser.add_argument("--class", dest="class_name", metavar="NAME", help="class for Grad-CAM (the predicted one)")
    parser.add_argument("--layer", metavar="NAME", help="layer for Grad-CAM (the last feature map's)")
    parser.add_argument("--list-layers", action="store_true", help="print the layers that Grad-CAM can use, and exit")
    parser.add_argument("--view", type=int, default=1, metavar="N", help="which clip or crop of the recipe, from 1 (1)")
    parser.add_argument("--maps", type=positive, default=4, metavar="N", help="nodes or slots to show of each unit (4)")
    parser.add_argument("--stage", type=int, metavar="N", help="EurNet: the stage of the patch, from 1")
    parser.add_argument(
        "--patch", type=_patch, metavar="ROW,COL[,FRAME]", help="EurNet: the patch (where Grad-CAM is largest)"
    )
    parser.add_argument("--fps", type=float, default=4, metavar="N", help="frames per second of a GIF or MP4 (4)")
    parser.add_argument("arguments", nargs="+", metavar="FILE | key=value", help="a video or image, and settings")
    args = parse_arguments(parser, argv)
    if not 0.02 <= args.fps <= 100:
        parser.error(f"got --fps {args.fps:g}; expected 0.02 to 100")
    args.overrides, files = split_arguments(args.arguments)
    if len(files) != 1:
        parser.error(f"got {len(files)} files; visualize.py takes one video or image")
    (args.file,) = files
    args.output = args.output or Path(Path(args.file).stem + ".png")
    return args


def _patch(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) not in (2, 3) or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected ROW,COL or ROW,COL,FRAME, not {text!r}")
    return tuple(map(int, parts))


if __name__ == "__main__":
    clear_errors(main)
