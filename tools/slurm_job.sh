#!/usr/bin/env bash
# A job that trains in SLURM for as long as it takes: before its time is over, the run saves and the job queues again.
#
#   sbatch tools/slurm_job.sh [OPTIONS] CONFIG [key=value ...]               with the options of ./run_dist.sh
#   sbatch --nodes 4 --time 12:00:00 tools/slurm_job.sh CONFIG               what sbatch is told goes before the lines below
#
# Submit it from the suite's folder, on a disk that all machines share. `scancel JOB` ends the run for good; it saves, too.
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
[ -n "${SLURM_JOB_ID:-}" ] || fail "this is a job for SLURM: sbatch [--nodes N ...] tools/slurm_job.sh CONFIG"
cd "${SLURM_SUBMIT_DIR:-.}" && [ -x run_dist.sh ] || fail "there is no run_dist.sh in $PWD; submit the job from the suite's folder"

export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-90} # of the 120 seconds after the signal
out_of_time='' cancelled=''
./run_dist.sh "$@" &
run=$!
trap 'out_of_time=1; kill -s USR1 "$run"' USR1 # srun passes it on to every machine
trap 'cancelled=1' TERM                        # of scancel; SLURM tells the machines itself
while kill -0 "$run" 2>/dev/null; do wait "$run"; done # a signal ends wait, not the run
wait "$run"
status=$?

# 75 is a run that saved and wants to go on. One that did not come so far in time goes on from an earlier checkpoint.
if [ -z "$cancelled" ] && { [ "$status" -eq 75 ] || { [ -n "$out_of_time" ] && [ "$status" -ne 0 ]; }; }; then
    echo "job $SLURM_JOB_ID queues again; it was restarted ${SLURM_RESTART_COUNT:-0} times before"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
