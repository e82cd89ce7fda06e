"""Learning rates equal the tables of the authors' scheduler."""

import json
from pathlib import Path

import pytest
import torch

from engine.schedule import Milestones, ScheduleSettings, learning_rate, warn_of_length

GOLDEN = json.loads((Path(__file__).parent.parent / "golden/glore_train.json").read_text())["lr_schedule"]["tables"]
PAPER = ScheduleSettings(name="step", warmup_steps=1500, drop_at_samples=[10_800_000, 15_600_000, 20_400_000])


@pytest.mark.parametrize("table", [name for name in GOLDEN if "resume" not in name])
def test_the_step_schedule_equals_the_authors(table):
    golden = GOLDEN[table]
    milestones = PAPER.milestones(golden["batch_size"] * golden["world_size"], samples_per_epoch=240_000)
    assert list(milestones.drops) == golden["lr_steps_in_updates"] and milestones.warmup == 1500
    rows = next(value for key, value in golden.items() if key.startswith("rows"))
    for step, returned, _ in rows:
        assert learning_rate(step, golden["lr_base"], PAPER, 10**6, milestones) == pytest.approx(returned, rel=1e-9)


def test_a_resumed_run_has_the_same_rates():
    """The authors' tables for resumed runs count steps from the resume; ours depend only on the step of the run."""
    golden = GOLDEN["8_nodes_resume_epoch_30"]
    rows = next(value for key, value in golden.items() if key.startswith("rows"))
    milestones = Milestones(1500, tuple(golden["lr_steps_in_updates"]))
    for step, returned, _ in rows:
        rate = learning_rate(golden["step_counter_at_start"] + step, 0.05, PAPER, 10**6, milestones)
        assert rate == pytest.approx(returned, rel=1e-9)


def test_cosine_warms_up_and_ends_at_the_final_fraction():
    cosine = ScheduleSettings(name="cosine", warmup_steps=10, warmup_start=0.0, final_fraction=0.1)
    rates = [learning_rate(step, 2.0, cosine, 100, Milestones(warmup=10)) for step in range(1, 101)]
    assert rates[4] == pytest.approx(1.0) and rates[9] == pytest.approx(2.0)
    assert rates[-1] == pytest.approx(0.2) and rates[54] == pytest.approx(1.1)
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_the_polynomial_schedule_falls_to_its_end_under_the_warm_up():
    poly = ScheduleSettings(name="poly", power=0.9, warmup_steps=20, warmup_start=0.0, final_fraction=0.01)
    rates = [learning_rate(step, 2.0, poly, 100, Milestones(warmup=20)) for step in range(1, 101)]
    curve = [2.0 * (0.01 + 0.99 * (1 - done / 100) ** 0.9) for done in range(100)]
    assert rates[20:] == pytest.approx(curve[20:])
    assert rates[:20] == pytest.approx([rate * step / 20 for step, rate in enumerate(curve[:20], start=1)])
    straight = ScheduleSettings(name="poly")
    assert learning_rate(51, 1.0, straight, 100, Milestones()) == pytest.approx(0.5)


def test_drops_in_epochs():
    steps = ScheduleSettings(name="step", drop_at_epochs=[1, 1.5])
    milestones = steps.milestones(batch_size=10, samples_per_epoch=100)
    assert milestones == Milestones(0, (10, 15), 10.0, 0)
    assert [learning_rate(step, 1.0, steps, 20, milestones) for step in (10, 11, 15, 16)] == pytest.approx(
        [1, 0.1, 0.1, 0.01]
    )


@pytest.mark.parametrize("samples", [97, 100, 105])
def test_whole_epochs_have_one_rate(samples):
    def rates(**options):
        settings = ScheduleSettings(**options, per_epoch=True)
        milestones = settings.milestones(batch_size=10, samples_per_epoch=samples)
        num_steps = round(6 * samples / 10)
        found = [learning_rate(step, 1.0, settings, num_steps, milestones) for step in range(1, num_steps + 1)]
        by_epoch = [{rate for s, rate in enumerate(found) if int(s * 10 / samples) == epoch} for epoch in range(6)]
        assert all(len(epoch) == 1 for epoch in by_epoch)
        return [rate for epoch in by_epoch for rate in epoch]

    assert rates(name="step", drop_at_epochs=[2, 4]) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert rates(name="poly") == pytest.approx([1 - epoch / 6 for epoch in range(6)], rel=0.02)
    warm = rates(name="cosine", warmup_epochs=3, warmup_start=0)
    assert warm[:4] == pytest.approx([0, 1 / 3, 2 / 3, 1], rel=0.02) and warm[3] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("per_epoch", [False, True])
@pytest.mark.parametrize("prefix", [False, True])
def test_cosines_equal_those_of_timm(prefix, per_epoch):
    """20 epochs of 10 steps, including 3 of warm-up, then 2 epochs at the final rate."""
    from timm.scheduler import CosineLRScheduler

    unit = 1 if per_epoch else 10
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs = CosineLRScheduler(
        optimizer,
        t_initial=(20 - 3 * prefix) * unit,
        lr_min=0.05,
        warmup_lr_init=0.005,
        warmup_t=3 * unit,
        warmup_prefix=prefix,
        t_in_epochs=per_epoch,
    )
    ours = ScheduleSettings(
        warmup_epochs=3,
        warmup_start=0.01,
        warmup_prefix=prefix,
        final_fraction=0.1,
        cooldown_epochs=2,
        per_epoch=per_epoch,
    )
    for step in range(1, 221):
        if per_epoch:
            theirs.step((step - 1) // 10)
        else:
            theirs.step_update(step)
        rate = learning_rate(step, 0.5, ours, 220, ours.milestones(batch_size=4, samples_per_epoch=40))
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "step"}, "needs drop_at_samples or drop_at_epochs"),
        ({"name": "cosine", "drop_at_epochs": [1]}, "no other schedule takes them"),
        ({"name": "cosine", "drop_factor": 0.5}, "drop_factor does not apply to the schedule cosine"),
        ({"name": "cosine", "power": 0.9}, "power does not apply to the schedule cosine"),
        (
            {"name": "poly", "warmup_prefix": False},
            "the schedule poly; .* override it with schedule.warmup_prefix=true",
        ),
        ({"name": "constant", "final_fraction": 0.01}, "remove it, or override it with schedule.final_fraction=0.0"),
        ({"name": "constant", "cooldown_epochs": 1}, "cooldown_epochs does not apply to the schedule constant"),
        ({"warmup_steps": 1, "warmup_epochs": 1}, "either warmup_steps or warmup_epochs"),
        ({"name": "step", "drop_at_epochs": [2, 1]}, "must be positive and increasing"),
        ({"name": "step", "drop_at_epochs": [1], "drop_at_samples": [5]}, "either drop_at_samples or drop_at_epochs"),
    ],
)
def test_contradictory_settings_are_rejected(settings, message):
    with pytest.raises(ValueError, match=message):
        ScheduleSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "num_steps", "warnings"),
    [
        ({}, 1, ["in a run of 1 steps the learning rate is at most 0 of optimizer.lr"]),
        ({}, 10, []),
        ({"warmup_steps": 10}, 12, []),
        ({"warmup_steps": 10}, 9, ["the warm-up of 10 steps and the cooldown of 0 are longer than the run of 9 steps"]),
        ({"name": "step", "drop_at_epochs": [1, 2]}, 20, ["ends before 1 of its 2 drops"]),
        ({"name": "step", "drop_at_epochs": [1, 2]}, 21, []),
        ({"name": "constant", "warmup_start": 0.5}, 5, ["warmup_start has no effect without a warm-up"]),
    ],
)
def test_what_a_short_run_cannot_do_is_said(settings, num_steps, warnings, caplog):
    schedule = ScheduleSettings(**settings)
    warn_of_length(schedule, schedule.milestones(batch_size=10, samples_per_epoch=100), num_steps)
    assert len(caplog.messages) == len(warnings)
    assert all(warning in message for warning, message in zip(warnings, caplog.messages, strict=True))


def test_no_warning_for_recipes_that_say_the_default_or_warm_up_by_epochs(caplog):
    for options, samples in (({"warmup_start": 0.1}, 100), ({"warmup_epochs": 1, "per_epoch": True}, 104)):
        schedule = ScheduleSettings(**options)
        warn_of_length(schedule, schedule.milestones(batch_size=10, samples_per_epoch=samples), 208)
    assert not caplog.messages
