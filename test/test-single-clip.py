"""Evaluates a network on one centre clip per validation video, the protocol of GloRe's published numbers.

    python test/test-single-clip.py                                 the newest run
    python test/test-single-clip.py -c RECIPE --checkpoint FILE     any weights, including the authors' released files

Takes the same arguments as tools/evaluate.py.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: spinning threads slow the decoders

from tools.common.errors import clear_errors
from tools.evaluate import main

if __name__ == "__main__":
    if Path.cwd() == Path(__file__).resolve().parent:  # the authors run their script from test/
        os.chdir("..")
    presets = ["evaluation.num_clips=1", "evaluation.num_crops=1"]
    clear_errors(lambda: main(presets=presets, description=__doc__, task="clip_classification"))
