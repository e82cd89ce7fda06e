"""Learning rates against the tables of the authors' scheduler."""

import json
from pathlib import Path

import pytest

from engine.schedule import ScheduleSettings, learning_rate

GOLDEN = json.loads((Path(__file__).parent.parent / "golden/glore_train.json").read_text())["lr_schedule"]["tables"]
PAPER = ScheduleSettings(name="step", warmup_steps=1500, drop_at_samples=[10_800_000, 15_600_000, 20_400_000])


@pytest.mark.parametrize("table", [name for name in GOLDEN if "resume" not in name])
def test_step_schedule_equals_the_authors(table):
    golden = GOLDEN[table]
    drops = PAPER.drops_in_steps(golden["batch_size"] * golden["world_size"], samples_per_epoch=240_000)
    assert drops == golden["lr_steps_in_updates"]
    rows = next(value for key, value in golden.items() if key.startswith("rows"))
    for step, returned, _ in rows:
        assert learning_rate(step, golden["lr_base"], PAPER, 10**6, drops) == pytest.approx(returned, rel=1e-9)


def test_a_resumed_run_has_the_same_rates():
    """The authors' tables for resumed runs count from the resumption; ours is a function of the step alone."""
    golden = GOLDEN["8_nodes_resume_epoch_30"]
    rows = next(value for key, value in golden.items() if key.startswith("rows"))
    for step, returned, _ in rows:
        rate = learning_rate(golden["step_counter_at_start"] + step, 0.05, PAPER, 10**6, golden["lr_steps_in_updates"])
        assert rate == pytest.approx(returned, rel=1e-9)


def test_cosine_warms_up_and_ends_at_its_fraction():
    cosine = ScheduleSettings(name="cosine", warmup_steps=10, warmup_start=0.0, final_fraction=0.1)
    rates = [learning_rate(step, 2.0, cosine, 100) for step in range(1, 101)]
    assert rates[4] == pytest.approx(1.0) and rates[9] == pytest.approx(2.0)
    assert rates[-1] == pytest.approx(0.2) and rates[54] == pytest.approx(1.1)
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_drops_in_epochs():
    steps = ScheduleSettings(name="step", drop_at_epochs=[1, 1.5])
    assert steps.drops_in_steps(batch_size=10, samples_per_epoch=100) == [10, 15]
    assert [learning_rate(step, 1.0, steps, 20, [10, 15]) for step in (10, 11, 15, 16)] == pytest.approx(
        [1, 0.1, 0.1, 0.01]
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "step"}, "needs drop_at_samples or drop_at_epochs"),
        ({"name": "cosine", "drop_at_epochs": [1]}, "the other schedules take neither"),
        ({"name": "cosine", "drop_factor": 0.5}, "drop_factor is no setting of the schedule cosine"),
        ({"name": "step", "drop_at_epochs": [2, 1]}, "must be positive and increasing"),
        ({"name": "step", "drop_at_epochs": [1], "drop_at_samples": [5]}, "either drop_at_samples or drop_at_epochs"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ScheduleSettings(**settings)
