"""Serves a web page on this machine: drop a video or an image on it, and read its most probable classes.

    python tools/web_page.py                                    with the newest run
    python tools/web_page.py --checkpoint shared/glore_motion   with a folder of tools/save_pretrained.py, or a file
    python tools/web_page.py --port 8000 --top 10

Needs gradio: pip install '.[web]'. Only this machine can open the page, and nothing leaves the machine.
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
    parser.add_argument("--port", type=int, default=7860, metavar="N", help="port on 127.0.0.1 (7860)")
    parser.add_argument("--top", type=positive, default=5, metavar="N", help="classes to show (5)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change")
    args = parse_arguments(parser, argv)
    if not 0 < args.port < 2**16:
        raise SettingsError(f"got --port {args.port}; it must be from 1 to {2**16 - 1}")
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # gradio asks its own server whether it is up
    from inference.predictor import Predictor  # imports torch: too slow for --help
    from inference.web_page import build_page, serve

    options = {"config": args.config, "run_dir": args.run_dir, "average": args.average, "top": args.top}
    serve(build_page(Predictor(args.checkpoint, args.overrides, **options), args.top), args.port)


if __name__ == "__main__":
    clear_errors(main)
