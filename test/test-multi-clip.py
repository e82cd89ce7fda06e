"""Scores a network on many views of each validation video, averaged per video: 10 clips x 3 crops.

    python test/test-multi-clip.py                                  the newest run
    python test/test-multi-clip.py evaluation.num_clips=4 evaluation.num_crops=1

The arguments are those of tools/evaluate.py. Beside the score per video it gives the score of the single clips.
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
    presets = ["evaluation.num_clips=10", "evaluation.num_crops=3"]
    clear_errors(lambda: main(presets=presets, description=__doc__, task="clip_classification"))
