#!/usr/bin/env bash
# Trains on this machine, one process per GPU, or one on the CPU. The same command again continues an interrupted run.
#
#   ./run_local.sh                            the demo: eight motions, made, learned and scored in minutes
#   ./run_local.sh CONFIG [key=value ...]     any recipe below configs/
#   NUM_PROCESSES=2 ./run_local.sh CONFIG     another number of processes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
case ${1:-} in -h | --help) sed -n '2,6s/^# \{0,1\}//p' run_local.sh; exit ;; esac

source tools/environment.sh
find_python "" ""

if [ $# -eq 0 ]; then
    demo=yes config=configs/demo/glore_motion.yaml processes=${NUM_PROCESSES:-1}
else
    demo=no config=$1 processes=${NUM_PROCESSES:-$("$PYTHON" -c 'import torch; print(max(1, torch.cuda.device_count()))')}
    shift
fi
cores=$(nproc 2>/dev/null || sysctl -n hw.ncpu)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > processes ? cores / processes : 1))}
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} # threads that wait leave the cores to the processes that decode
"$PYTHON" -m torch.distributed.run --standalone --nproc-per-node "$processes" tools/train.py -c "$config" "$@"

if [ "$demo" = yes ]; then
    python=$([ "$PYTHON" = .venv/bin/python ] && echo "$PYTHON" || echo python)
    cat <<END

The demo is done. Its videos lie in data/motion_shapes, all else in runs/demo/glore_motion: look at curves.png there and
at evaluations/1x1/confusion.png. What to try next:

  $python test/test-multi-clip.py
      ten clips and three crops of each video instead of one
  $python tools/predict.py data/motion_shapes/val/grow
      what it sees in single videos
  ./run_local.sh configs/demo/glore_motion.yaml model.name=resnet_debug_3d run.dir=runs/without_glore
      the same network without reasoning units
  ./run_local.sh configs/own_videos_small.yaml data.train=FOLDER data.val=FOLDER
      your own videos: a folder for each class, see README.md
END
fi
