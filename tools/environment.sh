# Sourced by run_local.sh, run_dist.sh and run_tests.sh: sets $PYTHON to a Python that has the suite's packages, and
# divides the cores between the processes of a run.
#
# Order: the active environment if it has them, .venv in the suite's folder, a new .venv.
# find_python MODULES EXTRAS: modules needed beyond the core ones, and the pip extras that provide them.

CORE="torch torchvision torch_geometric av PIL einops yaml pydantic safetensors timm tqdm matplotlib tensorboard"

has_packages() {
    "$1" - $CORE $2 2>/dev/null <<'END'
import sys
from importlib.metadata import version
from importlib.util import find_spec

torch = tuple(int(part) for part in version("torch").split(".")[:2])
sys.exit(sys.version_info < (3, 11) or torch < (2, 11) or any(find_spec(module) is None for module in sys.argv[1:]))
END
}

find_python() {
    local modules=$1 extras=$2
    PYTHON=$(command -v python3 || command -v python || true)
    if [ -n "$PYTHON" ] && has_packages "$PYTHON" "$modules"; then return; fi
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then # missing, or half created
        if ! "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "error: Python 3.11 or newer is required; python3 here is: ${PYTHON:-not found}" >&2
            exit 2
        fi
        echo "creating .venv (once; PyTorch is a large download) ..." >&2
        rm -rf .venv
        if ! "$PYTHON" -m venv .venv; then
            rm -rf .venv
            echo "error: $PYTHON cannot create an environment; on Debian and Ubuntu: apt install python3-venv" >&2
            exit 2
        fi
    fi
    PYTHON=.venv/bin/python
    if ! has_packages "$PYTHON" "$modules"; then
        echo "installing the packages into .venv ..." >&2
        "$PYTHON" -m pip install --quiet --upgrade pip
        "$PYTHON" -m pip install --quiet ".${extras:+[$extras]}"
    fi
}

# The default number of processes on this machine: one per GPU, or one on the CPU.
count_gpus() { "$PYTHON" -c 'import torch; print(max(1, torch.cuda.device_count()))'; }

# Divides the cores between $1 processes. Idle threads sleep, so that the processes that decode get their cores.
share_cores() {
    local cores
    cores=$(nproc 2>/dev/null || sysctl -n hw.ncpu)
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > $1 ? cores / $1 : 1))}
    export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
}
