#!/usr/bin/env bash
# Trains on this machine, one process per GPU, or one on the CPU. The same command again continues an interrupted run.
#
#   ./run_local.sh                                        the demo: eight motions, made, learned and scored in minutes
#   ./run_local.sh CONFIG [key=value ...]                 any recipe below configs/
#   NUM_PROCESSES=2 ./run_local.sh CONFIG                 another number of processes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
case ${1:-} in -h | --help) sed -n '2,6s/^# \{0,1\}//p' run_local.sh; exit ;; esac

source tools/environment.sh
find_python "" ""

config=${1:-configs/demo/glore_motion.yaml}
[ $# -gt 0 ] && shift
gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l || true)
processes=${NUM_PROCESSES:-$((gpus > 0 ? gpus : 1))}
cores=$(nproc 2>/dev/null || sysctl -n hw.ncpu)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores / processes > 0 ? cores / processes : 1))}
exec "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node "$processes" tools/train.py -c "$config" "$@"
