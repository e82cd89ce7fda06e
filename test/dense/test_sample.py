"""How many boxes are drawn, which, and from which random numbers."""

import torch

from dense.assign import BACKGROUND, IGNORED
from dense.sample import SampleRule, sample


def assigned(num_positive: int, num_negative: int, num_ignored: int = 5) -> torch.Tensor:
    values = [0] * num_positive + [BACKGROUND] * num_negative + [IGNORED] * num_ignored
    return torch.tensor(values)[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))]


def test_positives_have_a_limit_and_background_fills_up():
    for (positive, negative), expected in {
        (100, 100): (8, 24),
        (3, 100): (3, 29),
        (0, 100): (0, 32),
        (100, 4): (8, 4),
        (0, 0): (0, 0),
    }.items():
        found = sample(assigned(positive, negative), SampleRule(32, 0.25))
        assert tuple(len(indices) for indices in found) == expected


def test_indices_are_of_their_kind_increasing_and_different():
    given = assigned(40, 60)
    positive, negative = sample(given, SampleRule(32, 0.5))
    assert (given[positive] >= 0).all()
    assert (given[negative] == BACKGROUND).all()
    for indices in (positive, negative):
        assert (indices.diff() > 0).all()


def test_a_seed_decides_and_every_box_has_its_chance():
    given, rule = assigned(40, 60), SampleRule(16, 0.5)
    torch.manual_seed(3)
    first = sample(given, rule)
    torch.manual_seed(3)
    again = sample(given, rule)
    own = sample(given, rule, torch.Generator().manual_seed(3))
    other = sample(given, rule, torch.Generator().manual_seed(4))
    for a, b, c, d in zip(first, again, own, other, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
        assert not torch.equal(a, d)
    drawn = torch.zeros(len(given))
    for _ in range(400):
        drawn[torch.cat(sample(given, rule))] += 1
    assert (drawn[given == IGNORED] == 0).all()
    assert (drawn[given != IGNORED] > 20).all()  # 53 and 80 expected


def test_all_boxes_are_taken_without_random_numbers_if_there_are_few():
    state = torch.random.get_rng_state()
    sample(assigned(3, 4), SampleRule(100, 0.5))
    assert torch.equal(torch.random.get_rng_state(), state)
