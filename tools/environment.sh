# Sourced by run_local.sh, run_dist.sh and run_tests.sh: finds a Python that has the suite's packages, as $PYTHON.
#
# 1. the active environment, where it has them;  2. .venv beside the suite;  3. a .venv made now.
# find_python MODULES EXTRAS: modules that must import, and the pip extras that bring those that are not in the core.

has_packages() {
    "$1" -c "import importlib.util, sys; sys.exit(any(importlib.util.find_spec(m) is None for m in sys.argv[1:]))" \
        torch torchvision torch_geometric av yaml pydantic safetensors tqdm matplotlib tensorboard $2 2>/dev/null
}

find_python() {
    local modules=$1 extras=$2
    PYTHON=$(command -v python3 || command -v python || true)
    if [ -n "$PYTHON" ] && has_packages "$PYTHON" "$modules"; then return; fi
    local version=$("$PYTHON" -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null)
    if [ ! -x .venv/bin/python ]; then
        if [ "$version" != True ]; then
            echo "error: Python 3.11 or newer is needed, and python3 is ${PYTHON:-not there}; install it and start again" >&2
            exit 2
        fi
        echo "making .venv (once; PyTorch is a large download) ..." >&2
        "$PYTHON" -m venv .venv
    fi
    PYTHON=.venv/bin/python
    if ! has_packages "$PYTHON" "$modules"; then
        "$PYTHON" -m pip install --quiet --upgrade pip
        "$PYTHON" -m pip install --quiet ".${extras:+[$extras]}"
    fi
}
