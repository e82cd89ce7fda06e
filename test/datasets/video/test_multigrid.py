"""The shapes of clips: which cycle comes when, and that a sample's shape is a function of its number."""

import pickle
from collections import Counter

import pytest

from datasets.video import ClipShape, Multigrid, MultigridSettings, StepGrids

LONG = [(2, 160), (4, 160), (4, 224), (8, 224)]


def test_long_cycle():
    shapes = Multigrid(MultigridSettings(long_cycles=2, short_cycle=False, final=0.2), 8, 224, num_steps=100)
    at = [shapes.at(step) for step in range(100)]
    assert at == [shape for shape in LONG * 2 for _ in range(10)] + [(8, 224)] * 20
    assert shapes.shapes() == LONG
    pixels = [t * s**2 / (8 * 224**2) for t, s in LONG]
    assert shapes.cost() == pytest.approx(0.8 * sum(pixels) / 4 + 0.2)


def test_short_cycle():
    shapes = Multigrid(MultigridSettings(), 8, 224, num_steps=1500)
    assert [shapes.at(step) for step in range(4)] == [(2, 112), (2, 160), (2, 160), (2, 112)]
    assert [shapes.at(step) for step in range(300, 303)] == [(8, 112), (8, 160), (8, 224)]
    counts = Counter(shapes.at(step) for step in range(1200))
    assert counts[8, 224] == 100 and counts[2, 160] == 200 and sum(counts.values()) == 1200
    assert {shapes.at(step) for step in range(1200, 1500)} == {(8, 224)}


@pytest.mark.parametrize("num_steps", [1, 2, 7, 30])
@pytest.mark.parametrize(("num_frames", "size"), [(1, 20), (3, 8), (4, 32)])
def test_short_runs_and_small_clips_have_shapes(num_steps, num_frames, size):
    shapes = Multigrid(MultigridSettings(), num_frames, size, num_steps)
    for shape in shapes.shapes():
        assert 1 <= shape.num_frames <= num_frames and 8 <= shape.size <= size
    assert 0 < shapes.cost() <= 1


def test_a_sample_has_the_shape_of_its_step():
    shapes = Multigrid(MultigridSettings(), 8, 224, num_steps=30)
    grids = pickle.loads(pickle.dumps(StepGrids(shapes, 4, tuple)))
    assert [grids(number) for number in range(120)] == [shapes.at(number // 4) for number in range(120)]
    assert grids(119) == ClipShape(8, 224)


@pytest.mark.parametrize("settings", [{}, {"short_cycle": False, "final": 0.5}, {"long_cycles": 40, "final": 0}])
@pytest.mark.parametrize("num_steps", [1, 5, 47, 1500])
def test_shapes_and_cost_are_those_of_all_steps(settings, num_steps):
    shapes = Multigrid(MultigridSettings(**settings), 8, 224, num_steps)
    steps = [shapes.at(step) for step in range(num_steps)]
    assert shapes.shapes() == sorted(set(steps))
    pixels = sum(shape.num_frames * shape.size**2 for shape in steps)
    assert shapes.cost() == pytest.approx(pixels / (num_steps * 8 * 224**2), rel=1e-12)


def test_a_run_of_millions_of_steps_is_not_walked():
    shapes = Multigrid(MultigridSettings(), 8, 224, 10**12)  # walking it would take days
    assert shapes.shapes()[-1] == (8, 224) and 0.2 < shapes.cost() < 1
