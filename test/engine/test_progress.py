"""Averages and speed of a window, and progress without a terminal."""

import logging
import time

import pytest
import torch

from engine.distributed import Ranks
from engine.progress import Meter, counted, progress_bar, terminal_bar

ALONE = Ranks(0, 1, torch.device("cpu"))


def test_a_window_averages_per_sample():
    meter = Meter(ALONE)
    meter.add({"loss": torch.tensor(6.0), "top1": torch.tensor(2)}, 3)
    meter.add({"loss": torch.tensor(2.0), "top1": torch.tensor(1)}, 1)
    values = meter.close_window()
    assert values["loss"] == 2.0 and values["top1"] == 0.75 and values["samples_per_second"] > 0
    meter.add({"loss": torch.tensor(1.0), "top1": torch.tensor(0)}, 1)
    assert meter.close_window()["loss"] == 1.0


def test_a_window_continues_after_a_resume():
    meter = Meter(ALONE)
    meter.add({"loss": torch.tensor(6.0)}, 3)
    later = Meter(ALONE)
    later.restore(meter.state())
    for m in (meter, later):
        m.add({"loss": torch.tensor(2.0)}, 1)
    assert meter.close_window()["loss"] == later.close_window()["loss"] == 2.0


def test_time_waiting_for_data_counts_but_pauses_do_not():
    meter = Meter(ALONE)

    def slow():
        time.sleep(0.05)
        yield "batch"

    assert meter.next_batch(slow()) == "batch"
    with meter.paused():
        time.sleep(0.2)
    meter.add({"loss": torch.tensor(1.0)}, 5)
    values = meter.close_window()
    assert values["waiting_for_data"] == pytest.approx(1, abs=0.3) and values["samples_per_second"] > 5 / 0.2


def test_progress_is_logged_without_a_terminal(caplog):
    with caplog.at_level(logging.INFO), progress_bar(10, 4, ALONE, "training") as bar:
        bar.delay = 0
        bar.mininterval = 0
        bar.set_postfix(loss="0.5")
        bar.update(2)
        bar.refresh()
    assert any("training: step 6 of 10" in line and "loss=0.5" in line for line in caplog.messages)
    caplog.clear()
    with caplog.at_level(logging.INFO), terminal_bar(3, "checking", "image") as bar:
        assert list(counted("abc", bar)) == ["a", "b", "c"]
    assert caplog.messages == [] and bar.n == 3  # it took less than 30 s
    with progress_bar(10, 0, Ranks(1, 2, torch.device("cpu")), "training") as bar:
        assert bar.disable
