"""Items in worker processes: their results, and what happens when a process hangs, crashes or raises."""

import os
import signal
import subprocess
import time

import pytest

from datasets.worker_pool import Lost, run_each


def work(item):
    kind, value = item
    match kind:
        case "hang":
            time.sleep(60)
        case "hang in a child":
            with open(value, "w") as file:
                child = subprocess.Popen(["sleep", "60"])
                file.write(str(child.pid))
            child.wait()
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise ValueError(f"no {value}")
    return value * 2


def is_running(pid):
    status = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True).stdout.strip()
    return bool(status) and not status.startswith("Z")


def test_every_item_has_its_result():
    items = [("double", number) for number in range(20)]
    results = dict(run_each(work, items, num_workers=3, timeout_seconds=60))
    assert results == {item: 2 * item[1] for item in items}
    assert list(run_each(work, [], 2, 1)) == []


def test_lost_processes_cost_one_item_each(tmp_path):
    pid = tmp_path / "child"
    items = [
        ("hang", 0),
        ("crash", 1),
        ("hang in a child", str(pid)),
        *(("double", number) for number in range(5)),
    ]
    start = time.monotonic()
    results = dict(run_each(work, items, num_workers=2, timeout_seconds=3))
    assert time.monotonic() - start < 40
    assert results["hang", 0] == Lost("took longer than 3 s")
    assert results["crash", 1] == Lost("crashed its worker process (SIGKILL)")
    assert isinstance(results["hang in a child", str(pid)], Lost)
    assert [results["double", number] for number in range(5)] == [0, 2, 4, 6, 8]
    while is_running(pid.read_text()):  # the children of a lost process end, too
        assert time.monotonic() - start < 40
        time.sleep(0.1)


def test_an_error_ends_the_run():
    with pytest.raises(ValueError, match="no luck"):
        list(run_each(work, [("double", 1), ("raise", "luck")], 1, 60))
