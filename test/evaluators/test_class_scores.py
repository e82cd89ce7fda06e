"""Accuracies equal counts by hand."""

import math

import numpy as np
import pytest
import torch

from evaluators.class_scores import ClassScores, best_classes, count_correct, rank_of_label, score_classes


def score(probabilities, labels) -> ClassScores:
    probabilities, labels = torch.as_tensor(probabilities), torch.as_tensor(labels)
    best = probabilities.sort(dim=1, descending=True, stable=True).indices[:, 0]
    ranks = rank_of_label(probabilities, labels)
    return score_classes(best.numpy(), ranks.numpy(), labels.numpy(), num_classes=probabilities.shape[1])


def test_count_correct():
    logits = torch.tensor([[3.0, 2, 1], [1, 2, 3], [2, 3, 1]])
    labels = torch.tensor([0, 0, 0])
    assert [count_correct(logits, labels, k).item() for k in (1, 2, 3, 5)] == [1, 2, 3, 3]


def test_scores():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.5, 0.4, 0.1], [0.1, 0.1, 0.8]])
    scores = score(probabilities, np.array([0, 0, 1, 2]))
    assert scores.pairs.tolist() == [[0, 0], [0, 1], [1, 0], [2, 2]] and scores.counts.tolist() == [1, 1, 1, 1]
    assert scores.confusion.tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert scores.top1 == 0.5 and scores.top5 == 1.0
    assert scores.mean_class_accuracy == pytest.approx((0.5 + 0 + 1) / 3)
    assert scores.per_class_accuracy.tolist() == [0.5, 0.0, 1.0]


def test_a_class_without_samples_does_not_count():
    scores = score(np.array([[0.9, 0.1, 0.0]]), np.array([0]))
    assert scores.mean_class_accuracy == 1.0 and math.isnan(scores.per_class_accuracy[1])
    empty = score(np.zeros((0, 3)), np.zeros(0, dtype=int))
    assert math.isnan(empty.top1) and math.isnan(empty.mean_class_accuracy) and empty.confusion.sum() == 0


def test_rank_of_label_breaks_ties_like_a_stable_sort_and_ranks_nan_first():
    nan = float("nan")
    logits = torch.tensor([[1.0, 2, 2, 0], [2, 1, 2, 2], [nan, nan, nan, nan], [0, nan, 1, 2]])
    assert rank_of_label(logits, torch.tensor([2, 3, 0, 3])).tolist() == [1, 2, 4, 1]
    flat = torch.randint(0, 3, (200, 9)).double()  # many ties
    labels = torch.randint(0, 9, (200,))
    scores = score(flat, labels)
    order = np.argsort(-flat.numpy(), axis=1, kind="stable")
    assert scores.top1 == (order[:, 0] == labels.numpy()).mean()
    assert scores.top5 == (order[:, :5] == labels.numpy()[:, None]).any(axis=1).mean()
    assert count_correct(flat, labels, 1).item() / 200 == scores.top1
    assert count_correct(flat, labels, 5).item() / 200 == scores.top5


def test_ties_go_to_the_lower_class():
    assert score(np.full((1, 4), 0.25), np.array([0])).top1 == 1.0
    assert score(np.full((1, 4), 0.25), np.array([1])).top1 == 0.0


@pytest.mark.parametrize("num_values", [2, 5, 10**6])
@pytest.mark.parametrize("k", [1, 5, 9, 12])
def test_best_classes_are_those_of_a_stable_sort(num_values, k):
    scores = torch.randint(0, num_values, (300, 9), generator=torch.Generator().manual_seed(0)).double()
    expected = scores.sort(dim=1, descending=True, stable=True)
    values, classes = best_classes(scores, k)
    assert torch.equal(values, expected.values[:, :k]) and torch.equal(classes, expected.indices[:, :k])


def test_best_classes_of_no_items():
    values, classes = best_classes(torch.zeros(0, 9), 5)
    assert values.shape == classes.shape == (0, 5)
