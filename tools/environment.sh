# Sourced by run_local.sh, run_dist.sh and run_tests.sh: sets $PYTHON to a Python that has the suite's packages, divides
# the cores between the processes of a run, and checks what a person typed. $suite is the suite's folder; the scripts
# stay in the caller's, so that relative paths mean the caller's files.
#
# Order: the active environment if it has them, .venv in the suite's folder, a new .venv.
# find_python MODULES EXTRAS: modules needed beyond the core ones, and the pip extras that provide them.

fail() {
    echo "error: $1" >&2
    exit 2
}

# Whether $1 is a whole number from $2 up, as the shell's arithmetic and torchrun take it.
is_number() { [[ $1 =~ ^(0|[1-9][0-9]{0,8})$ ]] && [ "$1" -ge "$2" ]; }

# Variables of another launcher, such as those of a scheduler or of the job around this shell, are not about this run.
forget_other_launchers() {
    unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK ROLE_RANK ROLE_WORLD_SIZE MASTER_ADDR MASTER_PORT
    unset ${!TORCHELASTIC_@} ${!PET_@} # PET_X is the default of torchrun's option X
}

CORE="torch torchvision torch_geometric av PIL einops gemmi yaml pydantic safetensors timm tqdm matplotlib tensorboard"

has_packages() {
    "$1" -P - $CORE $2 2>/dev/null <<'END' # -P: no modules from the caller's folder; Python 3.10 does not know it
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
    local venv=$suite/.venv
    if ! "$venv/bin/python" -P -m pip --version >/dev/null 2>&1; then # missing, or half created
        if ! "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            fail "Python 3.11 or newer is required; python3 here is: ${PYTHON:-not found}"
        fi
        echo "creating $venv (once; PyTorch is a large download) ..." >&2
        rm -rf "$venv"
        if ! "$PYTHON" -P -m venv "$venv"; then
            rm -rf "$venv"
            fail "$PYTHON cannot create an environment; on Debian and Ubuntu: apt install python3-venv"
        fi
    fi
    PYTHON=$venv/bin/python
    if ! has_packages "$PYTHON" "$modules"; then
        echo "installing the packages into $venv ..." >&2
        "$PYTHON" -P -m pip install --quiet --upgrade pip
        # Editable, so that there are no copies of its packages, which would age.
        (cd "$suite" && "$PYTHON" -m pip install --quiet --editable ".${extras:+[$extras]}")
    fi
}

has_module() { "$PYTHON" -P -c 'import sys, importlib.util as i; sys.exit(i.find_spec(sys.argv[1]) is None)' "$1"; }

# Preloads jemalloc where it is installed, and tells it to keep freed memory: by its own rules it returns that after ten
# seconds, and is slower than glibc's allocator. LD_PRELOAD= in front of the command keeps it out. The loader finds the
# library by its name, for the processor at hand. OpenVINO ends a process that has it (2026.4: "free(): invalid pointer").
preload_jemalloc() {
    [ -z "${LD_PRELOAD+set}" ] && [ "$(uname -s)" = Linux ] || return 0
    local library=libjemalloc.so.2 known
    known=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null) || return 0
    [[ $known == *"$library "* ]] && ! has_module openvino || return 0
    export LD_PRELOAD=$library MALLOC_CONF=${MALLOC_CONF:-oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1}
}

# The default number of processes on this machine: one per GPU, or one on the CPU.
count_gpus() { "$PYTHON" -P -c 'import torch; print(max(1, torch.cuda.device_count()))'; }

# Divides the cores between $1 processes. Idle threads sleep, so that the processes that decode get their cores.
share_cores() {
    local cores
    cores=$(nproc 2>/dev/null || sysctl -n hw.ncpu)
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > $1 ? cores / $1 : 1))}
    export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
}
