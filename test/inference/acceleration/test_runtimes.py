"""OpenVINO's networks come and go in a process that goes on."""

import signal
import subprocess
import sys

import pytest

SIGNAL_AFTER_THE_END_OF_TWO_NETWORKS = """
import faulthandler, pathlib, signal, sys, torch
from inference.acceleration.runtimes import read_openvino, write_openvino

faulthandler.enable()  # signals have a stack of their own from here on, as under pytest
path = pathlib.Path(sys.argv[1])
write_openvino(torch.export.export(torch.nn.Linear(4, 2).eval(), (torch.zeros(1, 4),)), path)
networks = [read_openvino(path, "f32") for _ in range(2)]
networks.pop(0)
networks.pop(0)
signal.signal(signal.SIGTERM, lambda number, frame: print("heard"))
signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.slow
@pytest.mark.needs("openvino")
def test_signals_are_heard_after_networks_were_used(tmp_path):
    """On processors with AMX the process would end with a segmentation fault if each network had its own core."""
    command = [sys.executable, "-c", SIGNAL_AFTER_THE_END_OF_TWO_NETWORKS, str(tmp_path / "network.xml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode != -signal.SIGSEGV and "heard" in done.stdout, done.stderr


CONVERSION = """
import pathlib, sys, torch
from inference.acceleration.runtimes import write_openvino

write_openvino(torch.export.export(torch.nn.Linear(4, 2).eval(), (torch.zeros(1, 4),)), pathlib.Path(sys.argv[1]))
print(sys.modules["openvino_telemetry"])
"""


@pytest.mark.slow
@pytest.mark.needs("openvino")
def test_a_conversion_is_reported_to_nobody(tmp_path):
    command = [sys.executable, "-c", CONVERSION, str(tmp_path / "network.xml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "None" and (tmp_path / "network.bin").exists()
