#!/usr/bin/env bash
# A SLURM job that trains for as long as it takes: before the time limit, the run saves and the job requeues itself.
#
#   sbatch tools/slurm_job.sh [OPTIONS] CONFIG [key=value ...]               takes the options of ./run_dist.sh
#   sbatch --nodes 4 --time 12:00:00 tools/slurm_job.sh CONFIG               sbatch options override the lines below
#
# Relative paths belong to the folder you submit it from, which is on a disk that all nodes share. The suite is that
# folder, or SUITE=FOLDER, or where the submitted tools/slurm_job.sh is. `scancel JOB` saves and ends the run for good.
#SBATCH --job-name=train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -uo pipefail

fail() {
    echo "error: $1" >&2
    exit 2
}
[ -n "${SLURM_JOB_ID:-}" ] || fail "this is a SLURM job; submit it with: sbatch [--nodes N ...] tools/slurm_job.sh CONFIG"
cd "${SLURM_SUBMIT_DIR:-.}" || exit 2

# SLURM runs a copy of this script; the job's record has the path that was submitted.
submitted() { scontrol show job "$SLURM_JOB_ID" 2>/dev/null | sed -n 's|^ *Command=\(/.*\)/tools/slurm_job\.sh.*|\1|p'; }
suite=${SUITE:-$PWD}
[ -n "${SUITE:-}" ] || [ -x run_dist.sh ] || suite=$(submitted)
[ -x "$suite/run_dist.sh" ] ||
    fail "there is no run_dist.sh in ${suite:-$PWD}; submit the job from the suite's folder, or name that: SUITE=FOLDER sbatch ..."

export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-90} # of 120 s after the signal
out_of_time='' cancelled=''
"$suite/run_dist.sh" "$@" &
run=$!
trap 'out_of_time=1; kill -s USR1 "$run"' USR1 # srun forwards it to every node
trap 'cancelled=1' TERM                        # from scancel; SLURM signals the nodes itself
# No `wait` until it has ended: bash can lose the status of a process while a signal interrupts a wait.
while kill -0 "$run" 2>/dev/null; do sleep 1; done
wait "$run"
status=$?

# 75: the run saved and wants to continue. A run that ran out of time before saving continues from an older checkpoint.
if [ -z "$cancelled" ] && { [ "$status" -eq 75 ] || { [ -n "$out_of_time" ] && [ "$status" -ne 0 ]; }; }; then
    echo "requeueing job $SLURM_JOB_ID; restarts so far: ${SLURM_RESTART_COUNT:-0}"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
