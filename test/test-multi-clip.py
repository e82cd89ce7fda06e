"""Evaluates a network on many views per validation video, 10 clips x 3 crops, and averages their probabilities.

    python test/test-multi-clip.py                                  the newest run
    python test/test-multi-clip.py evaluation.num_clips=4 evaluation.num_crops=1

Takes the same arguments as tools/evaluate.py. Reports scores per video and per clip.
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
    presets = ["evaluation.num_clips=10", "evaluation.num_crops=3"]
    clear_errors(lambda: main(presets=presets, description=__doc__, task="clip_classification"))
