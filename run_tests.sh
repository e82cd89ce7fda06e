#!/usr/bin/env bash
# Sets up and runs the tests; arguments go to pytest.
#
#   ./run_tests.sh                      the default suite, a few minutes
#   ./run_tests.sh -m slow              longer tests: full-size networks against the authors' numbers, faults, ...
#   ./run_tests.sh -m weekly            the longest tests: demos at full length, ... (docs/testing.md)
#   ./run_tests.sh test/glore3d -x      one folder
#
# Whole suites run in several processes, files and folders in one; -n N sets the number of processes (pytest-xdist).
set -euo pipefail
suite=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cd "$suite"
source tools/environment.sh
find_python "pytest pytest_timeout xdist" dev

cores=$(nproc 2>/dev/null || sysctl -n hw.ncpu)
# A test that kills its process ends the run: pytest-xdist would wait forever for the tests of a process that it replaced.
workers=(-n "$((cores < 8 ? cores : 8))" --dist loadfile --no-loadscope-reorder --max-worker-restart 0)
for argument; do
    if [ -e "${argument%%::*}" ] || [[ $argument =~ ^(-n|--numprocesses|--pdb|-h|--help|--co) ]]; then workers=(); fi
done
exec "$PYTHON" -m pytest ${workers[@]+"${workers[@]}"} "$@"
