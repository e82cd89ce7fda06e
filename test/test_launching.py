"""Forked scripts behave as those that are started, and capabilities skip or fail the tests that need them."""

import json
import os
import signal
import time
from types import SimpleNamespace

import capabilities
import pytest
from launching import PRELOADED, ROOT, ForkedRun, run_script

REPORT = """
import json, os, sys
modules = [name for name in json.loads(sys.argv[1]) if name not in sys.modules]
print(json.dumps([modules, sys.argv[2:], os.getcwd(), os.environ.get("PLANET"), os.getsid(0) == os.getpid(), __name__]))
print("to stderr", file=sys.stderr)
"""


@pytest.fixture
def script(tmp_path):
    def write(text):
        (tmp_path / "script.py").write_text(text)
        return tmp_path / "script.py"

    return write


def test_a_forked_script_has_all_imports_and_a_place_of_its_own(script):
    done = run_script(script(REPORT), json.dumps(PRELOADED), "a b", environment={"PLANET": "earth"})
    assert json.loads(done.stdout) == [[], ["a b"], str(ROOT), "earth", True, "__main__"]
    assert done.stderr == "to stderr\n"


@pytest.mark.parametrize(
    ("text", "status", "error"),
    [
        ("raise SystemExit(75)", 75, ""),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import sys; sys.exit('error: no')", 1, "error: no"),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_exit_status(script, text, status, error):
    done = run_script(script(text), check=False)
    assert done.returncode == status and error in done.stderr


def test_random_numbers_differ_between_forked_scripts(script):
    path = script("import random, numpy; print(random.random(), numpy.random.rand())")
    numbers = [number for _ in range(2) for number in run_script(path).stdout.split()]
    assert len(set(numbers)) == 4


@pytest.mark.slow
def test_torchrun_restarts_forked_processes_until_they_succeed(script, tmp_path):
    text = """
        import os, pathlib, sys
        count, rank = os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"]
        pathlib.Path(sys.argv[1], f"started-{rank}-{count}").touch()
        sys.exit(count == rank == "0")
    """
    path = script("\n".join(line.strip() for line in text.splitlines()))
    run_script(path, tmp_path, processes=2, restarts=1)
    assert len(list(tmp_path.glob("started-?-?"))) == 4
    assert run_script(path, tmp_path, processes=2, check=False).returncode == 1


def test_a_run_can_be_killed(script, tmp_path):
    text = "import pathlib, sys, time; pathlib.Path(sys.argv[1], 'ready').touch(); time.sleep(100)"
    run = ForkedRun([str(script(text)), str(tmp_path)], dict(os.environ))
    while not (tmp_path / "ready").exists():
        assert run.is_running()
        time.sleep(0.01)
    run.kill()
    assert run.finish(timeout=0).returncode == -signal.SIGKILL


def test_a_missing_capability_skips_and_fails_where_it_was_promised(monkeypatch):
    item = SimpleNamespace(iter_markers=lambda name: [pytest.mark.needs("proc", "warp").mark])
    monkeypatch.setitem(capabilities.CHECKS, "proc", lambda: None)
    monkeypatch.setitem(capabilities.CHECKS, "warp", lambda: capabilities.need_program("warp"))
    capabilities.why_missing.cache_clear()
    with pytest.raises(pytest.skip.Exception, match="no program warp"):
        capabilities.check_needs(item)
    monkeypatch.setenv(capabilities.PROMISES, "proc warp")
    with pytest.raises(pytest.fail.Exception, match="TEST_CAPABILITIES promises warp, but: no program warp"):
        capabilities.check_needs(item)
    capabilities.why_missing.cache_clear()


def test_a_promise_of_an_unknown_capability_is_an_error(monkeypatch):
    monkeypatch.setenv(capabilities.PROMISES, "gpu warp")
    with pytest.raises(
        pytest.UsageError, match=r"no capability is called 'warp' \(choices: chromium, compiler, decord"
    ):
        capabilities.promised()
