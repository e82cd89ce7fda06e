"""Scores a network on one centre clip of each validation video: the protocol of GloRe's published numbers.

    python test/test-single-clip.py                                 the newest run
    python test/test-single-clip.py -c RECIPE --checkpoint FILE     any weights, also the authors' released files

The arguments are those of tools/evaluate.py.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that wait leave the cores to the decoders

from tools.errors import clear_errors
from tools.evaluate import main

if __name__ == "__main__":
    if Path.cwd() == Path(__file__).resolve().parent:  # started as the authors start theirs
        os.chdir("..")
    presets = ["evaluation.num_clips=1", "evaluation.num_crops=1"]
    clear_errors(lambda: main(presets=presets, description=__doc__, task="clip_classification"))
