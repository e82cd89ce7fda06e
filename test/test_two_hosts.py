"""Two hosts with addresses of their own, as network namespaces: one is cut off in mid-run, and the run still ends as if
nothing had happened. It needs Linux and root. It waits more than it computes, so that others run beside it."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from conftest import write_recipe
from launching import ROOT, shell_environment
from run_files import weights

pytestmark = [pytest.mark.slow, pytest.mark.needs("network_namespaces")]

SECONDS_TO_RECOVER = 60  # docs/launch.md promises it
SETTINGS = ("run.num_threads=1", "run.timeout_minutes=0.3", "train.num_epochs=6")


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Hosts:
    """Two namespaces joined by a cable; what runs in them sees no other network."""

    def __init__(self, folder: Path):
        self.names = [f"vgr{os.getpid()}{letter}" for letter in "ab"]
        self.cables = [f"v{os.getpid()}{letter}" for letter in "ab"]
        lines = [f"{name} address=10.231.7.{n} slots=1\n" for n, name in enumerate(self.names, 1)]
        self.file = folder / "Hosts"
        self.file.write_text("".join(lines))
        self.rsh = folder / "rsh"
        self.rsh.write_text('#!/bin/sh\nexec ip netns exec "$1" sh -c "$2"\n')
        self.rsh.chmod(0o755)

    def __enter__(self):
        for name in self.names:
            ip("netns", "add", name)
        ends = zip(self.names, self.cables, strict=True)
        ip("link", "add", self.cables[0], "type", "veth", "peer", "name", self.cables[1])
        for n, (name, cable) in enumerate(ends, 1):
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "address", "add", f"10.231.7.{n}/24", "dev", cable)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", cable, "up")
        return self

    def __exit__(self, *_):
        for name in self.names:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.end_processes(name)
                ip("netns", "delete", name)

    def pull_cable(self) -> None:
        ip("-n", self.names[1], "link", "set", self.cables[1], "down")

    def plug_in_cable(self) -> None:
        ip("-n", self.names[1], "link", "set", self.cables[1], "up")

    def processes(self, name: str) -> dict[int, str]:
        """{process id: command line} of what runs on a host."""
        found = {}
        for pid in map(int, ip("netns", "pids", name).split()):
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def end_processes(self, name: str) -> None:
        for pid in self.processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def start(self, recipe: Path, run: Path) -> subprocess.Popen:
        line = ["./run_dist.sh", "--hosts", self.file, "--rsh", self.rsh, recipe, f"run.dir={run}", *SETTINGS]
        with open(run.with_suffix(".log"), "a") as log:
            return subprocess.Popen(list(map(str, line)), cwd=ROOT, env=shell_environment(), stdout=log, stderr=log)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    with Hosts(tmp_path_factory.mktemp("hosts")) as made:
        yield made


@pytest.fixture(scope="module")
def recipe(motion_videos, tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("recipe") / "recipe.yaml", motion_videos)


@pytest.fixture(scope="module")
def undisturbed(recipe, start, tmp_path_factory):
    """The weights after a run on two ranks of one machine without a fault."""
    run = tmp_path_factory.mktemp("undisturbed")
    start("tools/train.py", "-c", recipe, f"run.dir={run}", *SETTINGS, processes=2)
    return weights(run)


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def when_there(path: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.05)


def seconds_until_it_continues(run: Path, since: float) -> float:
    while "continuing" not in (run / "log.txt").read_text():
        assert time.monotonic() - since < 5 * SECONDS_TO_RECOVER, run.with_suffix(".log").read_text()
        time.sleep(0.1)
    return time.monotonic() - since


def test_a_host_is_switched_off(hosts, recipe, undisturbed, tmp_path):
    run = tmp_path / "run"
    job = hosts.start(recipe, run)
    when_there(run / "checkpoints/previous.pt")
    hosts.pull_cable()  # first, so that no connection is closed when its processes end
    hosts.end_processes(hosts.names[1])
    assert job.wait(SECONDS_TO_RECOVER) != 0, "the run should end without one of its machines"
    deadline = time.monotonic() + SECONDS_TO_RECOVER
    while hosts.processes(hosts.names[0]):
        assert time.monotonic() < deadline, f"still running: {hosts.processes(hosts.names[0])}"
        time.sleep(0.1)

    hosts.plug_in_cable()
    job = hosts.start(recipe, run)
    assert job.wait(300) == 0, run.with_suffix(".log").read_text()
    assert "continuing" in (run / "log.txt").read_text()
    assert_same(weights(run), undisturbed)


def test_a_cable_is_pulled_and_plugged_in_again(hosts, recipe, undisturbed, tmp_path):
    run = tmp_path / "run"
    job = hosts.start(recipe, run)
    when_there(run / "checkpoints/previous.pt")
    hosts.pull_cable()
    time.sleep(5)
    hosts.plug_in_cable()
    assert job.wait(300) == 0, run.with_suffix(".log").read_text()
    assert_same(weights(run), undisturbed)


@pytest.mark.parametrize("host", [0, 1])
def test_a_process_of_a_host_dies(hosts, recipe, undisturbed, tmp_path, host):
    run = tmp_path / "run"
    job = hosts.start(recipe, run)
    when_there(run / "checkpoints/previous.pt")
    training = [pid for pid, line in hosts.processes(hosts.names[host]).items() if f" -u {ROOT}/tools/train.py" in line]
    os.kill(min(training), signal.SIGKILL)
    seconds = seconds_until_it_continues(run, time.monotonic())
    assert seconds < SECONDS_TO_RECOVER, run.with_suffix(".log").read_text()
    print(f"the run continued after {seconds:.1f} s")
    assert job.wait(300) == 0, run.with_suffix(".log").read_text()
    assert_same(weights(run), undisturbed)
