#!/usr/bin/env bash
# Trains on this machine: one process per GPU, or one on the CPU. Run the same command again to resume.
#
#   ./run_local.sh [key=value ...]            the demo: generates videos of eight motions, trains, evaluates; minutes
#   ./run_local.sh CONFIG [key=value ...]     any recipe in configs/
#   NUM_PROCESSES=2 ./run_local.sh CONFIG     choose the number of processes
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"

case ${1:-} in
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' run_local.sh && exit ;;
    '' | *=*) config=configs/demo/glore_motion.yaml ;;
    *) config=$1 && shift ;;
esac
if [ ! -f "$config" ] && [ -f "$here/$config" ]; then config=$here/$config; fi

source tools/environment.sh
if [ -n "${NUM_PROCESSES:-}" ] && ! is_number "$NUM_PROCESSES" 1; then
    fail "NUM_PROCESSES must be a whole number of at least 1, got '$NUM_PROCESSES'; without it: one process per GPU"
fi
forget_other_launchers
find_python "" ""

if [ -n "${NUM_PROCESSES:-}" ]; then
    processes=$NUM_PROCESSES
elif [[ $config == configs/demo/* ]]; then
    processes=1 # demo batches are too small to split
else
    processes=$(count_gpus)
fi
share_cores "$processes"

train=(tools/train.py -c "$config" "$@")
if [ "$processes" -eq 1 ]; then exec "$PYTHON" "${train[@]}"; fi
exec "$PYTHON" tools/torchrun.py --standalone --nproc-per-node "$processes" "${train[@]}"
