"""One process at a time trains in a run directory."""

import errno
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from engine.run_lock import lock_run
from settings import SettingsError

HOLDER = """
import os, sys, time
from pathlib import Path
from engine.run_lock import lock_run

lock = lock_run(Path(sys.argv[1]))
child = os.fork()  # as a loading process is
print("held" if child else "", flush=True)
time.sleep(60)
"""


def test_who_holds_it_is_named_and_its_death_releases_it(tmp_path):
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as holder:
        try:
            while "held" not in holder.stdout.readline():
                assert holder.poll() is None
            expected = rf"{tmp_path.name} is in use by process {holder.pid} on .*; wait until it ends, or choose"
            with pytest.raises(SettingsError, match=expected):
                lock_run(tmp_path, seconds=0)
            holder.kill()  # its own process lives on
            start = time.monotonic()
            lock_run(tmp_path).close()
            assert time.monotonic() - start < 5
        finally:
            subprocess.run(["pkill", "-9", "-s", str(holder.pid)], check=False)


def test_a_closed_lock_is_free(tmp_path):
    for _ in range(2):
        lock_run(tmp_path, seconds=0).close()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("engine.run_lock.fcntl.lockf", unsupported)
    lock_run(tmp_path, seconds=0).close()
    assert "locks do not work here; do not start a second command in this folder" in caplog.text
