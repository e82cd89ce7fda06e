"""What a step costs beyond its network: a line for each number of ranks, and sums that are right."""

import math

import pytest

from tools.benchmark import main
from tools.benchmarks import step
from tools.benchmarks.step import Clocks, Costs, Turns


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_line_for_each_number_of_ranks(capfd, ranks):
    main(["step", "glore_resnet_debug_3d", "--ranks", str(ranks), "--steps", "24", "--device", "cpu"])
    title, head, row = capfd.readouterr().out.splitlines()
    assert title.startswith("glore_resnet_debug_3d, input 3 x 8 x 64 x 64, batch 1 of each rank")
    assert [cell.strip() for cell in head.split("  ") if cell] == [
        *("ranks", "bare step", "loop", "line of log", "checkpoint", "(its copy)", "on top")
    ]
    cells = row.replace("ms", "").replace("%", "").split()
    assert cells[0] == str(ranks) and len(cells) == 7
    assert float(cells[1]) > 0 and float(cells[4]) > 0


def test_steps_of_the_trainer_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(step.logging, "disable", lambda level: None)
    case = step.Case("glore_resnet_debug_3d", 1, (3, 4, 32, 32), (3, 4, 32, 32), 24, "cpu", 1, "float32")
    costs = step.measure_here(case, str(tmp_path))
    assert costs.bare > 0 and costs.copy > 0
    assert math.isfinite(costs.checkpoint)  # of wall-clock times: below 0 if something slowed the others


def test_each_cost_is_found():
    """A loop of 2 s, log lines of 3 s, checkpoints of 5 s (1 busy); every seventh step is slowed by something else."""
    slow = [(n % 7 == 0) * 100.0 for n in range(1, 122)]
    bare = [Clocks(10 + extra, 8) for extra in slow]
    trainer = [
        Clocks(12 + extra + 3 * (n % 3 == 0) + 5 * (n % 20 == 0), 10 + 3 * (n % 3 == 0) + (n % 20 == 0))
        for n, extra in enumerate(slow, 1)
    ]
    assert Turns(bare, trainer).costs(bare=10, copy=1) == Costs(bare=10, loop=2, line=3, checkpoint=5, copy=1)


def test_lines_and_checkpoints_are_spread_over_the_steps_between_them():
    assert Costs(bare=10, loop=2, line=3, checkpoint=5, copy=1).on_top == pytest.approx(2 + 3 / 10 + 5 / 500)


def test_unknown_model():
    with pytest.raises(ValueError, match="did you mean 'resnet50_3d'"):
        main(["step", "resnet50_3"])
