#!/usr/bin/env bash
# Sets up and runs the tests; arguments go to pytest.
#
#   ./run_tests.sh                      the default suite, a few minutes
#   ./run_tests.sh -m slow              what takes longer: the full-size networks against the authors' numbers, ...
#   ./run_tests.sh test/glore3d -x      one folder
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source tools/environment.sh
find_python "pytest pytest_timeout" dev
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} # threads that wait leave the cores to other processes
exec "$PYTHON" -m pytest "$@"
