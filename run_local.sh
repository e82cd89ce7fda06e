#!/usr/bin/env bash
# Trains on this machine: one process per GPU, or one on the CPU. Run the same command again to resume.
#
#   ./run_local.sh [key=value ...]            the demo: generates videos of eight motions, trains, evaluates; minutes
#   ./run_local.sh CONFIG [key=value ...]     any recipe in configs/
#   ./run_local.sh SCRIPT.py [ARGUMENT ...]   any other script of the suite, with the same Python: tools/predict.py VIDEO
#   NUM_PROCESSES=2 ./run_local.sh ...        choose the number of processes
#
# Relative paths, including those in a recipe, are relative to the current folder: there the command reads your data and
# writes runs/. A CONFIG or SCRIPT.py that is not found there is taken from the suite.
set -euo pipefail
suite=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$suite/tools/environment.sh"

case ${1:-} in
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$suite/run_local.sh" && exit ;;
    -*) fail "there is no option $1; see ./run_local.sh --help" ;;
    '' | *=*) first=configs/demo/glore_motion.yaml ;;
    *) first=$1 && shift ;;
esac
[ -f "$first" ] || [ ! -f "$suite/$first" ] || first=$suite/$first
[[ $first != *.py || -f $first ]] || fail "there is no script $first, neither here nor in $suite"

if [ -n "${NUM_PROCESSES:-}" ] && ! is_number "$NUM_PROCESSES" 1; then
    fail "NUM_PROCESSES must be a whole number of at least 1, got '$NUM_PROCESSES'; without it: one process per GPU"
fi
forget_other_launchers
find_python "" ""

if [ -n "${NUM_PROCESSES:-}" ]; then
    processes=$NUM_PROCESSES
elif [[ $first == *.py || $first == "$suite"/configs/demo/* ]]; then
    processes=1 # demo batches are too small to split
else
    processes=$(count_gpus)
fi
share_cores "$processes"
preload_jemalloc

words=("$first" "$@")
[[ $first == *.py ]] || words=("$suite/tools/train.py" -c "${words[@]}")
if [ "$processes" -eq 1 ]; then exec "$PYTHON" "${words[@]}"; fi
exec "$PYTHON" "$suite/tools/torchrun.py" --standalone --nproc-per-node "$processes" "${words[@]}"
