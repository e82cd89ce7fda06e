"""How a command that was stopped says that it goes on, and what helps a GPU that is out of memory."""

import sys

import pytest
import torch

from engine.signals import Stopped
from tools.common.errors import clear_errors


@pytest.mark.parametrize(
    ("arguments", "how"),
    [
        ([], "the same command resumes it"),
        (["run.resume=true"], "the same command resumes it"),
        (["run.resume=False"], "the same command with run.resume=true and run.dir=ITS_FOLDER resumes it"),
        (["run.resume=no"], "the same command with run.resume=true and run.dir=ITS_FOLDER resumes it"),
    ],
)
def test_a_stopped_command_says_how_to_resume_its_run(arguments, how, monkeypatch, capsys):
    def stop():
        raise Stopped("SIGTERM")

    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    with pytest.raises(SystemExit) as end:
        clear_errors(stop)
    assert end.value.code == 75 and f"the run is saved, and {how}" in capsys.readouterr().err


def test_a_gpu_out_of_memory_is_told_what_takes_less(capsys):
    def overflow():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation")

    with pytest.raises(SystemExit) as end:
        clear_errors(overflow)
    message = capsys.readouterr().err
    assert end.value.code == 2 and message.startswith("error: CUDA out of memory. Tried to allocate 2.00 GiB.\n")
    assert "train.batch_size" in message and "clips_per_forward" in message and "documentation" not in message
