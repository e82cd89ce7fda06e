"""run_local.sh: what it refuses before it starts, and what it forgets."""

import os
import shutil
import subprocess
import sys

import pytest
from launching import ROOT, shell_environment


@pytest.mark.parametrize("number", ["0", "-1", "two", "08", "1.5", "9" * 20])
def test_the_number_of_processes_is_checked(number):
    environment = shell_environment(NUM_PROCESSES=number)
    done = subprocess.run(["./run_local.sh"], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        f"error: NUM_PROCESSES must be a whole number of at least 1, got '{number}'; without it: one process per GPU\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hosts", "x"], "error: there is no option --hosts; see ./run_local.sh --help"),
        (["tools/predcit.py", "x.mp4"], f"error: there is no script tools/predcit.py, neither here nor in {ROOT}"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    line = [ROOT / "run_local.sh", *arguments]
    done = subprocess.run(line, cwd=tmp_path, env=shell_environment(), text=True, capture_output=True, timeout=60)
    assert done.returncode == 2 and done.stderr == f"{message}\n"


@pytest.mark.parametrize("folder", ["suite", "caller's"])
def test_other_scripts_get_the_same_python_and_stay_in_the_callers_folder(tmp_path, folder):
    """Also from a suite and a folder with spaces in their names."""
    suite, here = tmp_path / "the suite", tmp_path / "my project"
    (suite / "tools").mkdir(parents=True)
    (here / "tools").mkdir(parents=True)
    for name in ("run_local.sh", "tools/environment.sh"):
        shutil.copy(ROOT / name, suite / name)
    place = suite if folder == "suite" else here
    (place / "tools/say.py").write_text("import os, sys; print(sys.executable, os.getcwd(), sys.argv[1:], sep='\\n')")
    (here / "torch.py").write_text("raise SystemExit('not a module of the suite')")
    line = [suite / "run_local.sh", "tools/say.py", "new video.mp4", "data.val=x"]
    done = subprocess.run(line, cwd=here, env=shell_environment(), text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    python, cwd, arguments = done.stdout.splitlines()
    assert os.path.samefile(python, sys.executable) and cwd == str(here)
    assert arguments == "['new video.mp4', 'data.val=x']"


def test_variables_of_another_launcher_are_forgotten():
    left_over = dict.fromkeys(("RANK", "WORLD_SIZE", "MASTER_PORT", "PET_NNODES", "TORCHELASTIC_RUN_ID"), "7")
    script = "set -eu; suite=$PWD; source tools/environment.sh; forget_other_launchers; env"
    environment = shell_environment(**left_over, NCCL_DEBUG="INFO")
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, text=True, capture_output=True, check=True)
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert not names & left_over.keys() and "NCCL_DEBUG" in names


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD")
@pytest.mark.parametrize(
    ("listed", "given", "openvino", "expected"),
    [(True, None, False, "libjemalloc.so.2"), (False, None, False, ""), (True, "", False, ""), (True, None, True, "")],
)
def test_jemalloc_is_preloaded_where_it_is_installed(tmp_path, listed, given, openvino, expected):
    known = "\tlibjemalloc.so.2 (libc6,x86-64) => /lib/libjemalloc.so.2" if listed else "\tlibc.so.6 => /lib/libc.so.6"
    (tmp_path / "ldconfig").write_text(f"#!/bin/sh\nprintf '{known}\\n'\n")
    (tmp_path / "ldconfig").chmod(0o755)
    environment = shell_environment(PATH=f"{tmp_path}:{os.environ['PATH']}")
    environment.pop("LD_PRELOAD", None)
    if given is not None:
        environment["LD_PRELOAD"] = given
    environment.pop("MALLOC_CONF", None)
    script = "set -eu; suite=$PWD; source tools/environment.sh; "
    script += f"has_module() {{ {str(openvino).lower()}; }}; preload_jemalloc; "
    script += 'builtin echo "${LD_PRELOAD-} ${MALLOC_CONF-}"'
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, text=True, capture_output=True, check=True)
    preloaded, _, configured = done.stdout.rstrip("\n").partition(" ")
    assert preloaded == expected and ("dirty_decay_ms:-1" in configured) == bool(expected)
