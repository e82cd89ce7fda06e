"""Fmax and micro-AUPR equal golden numbers and a direct computation; the report names every protein once."""

import csv
import json

import numpy as np
import pytest
from conftest import ROOT

from evaluators.gather import Gathered
from evaluators.protein_function import FunctionEvaluation, fmax, micro_average_precision

GOLDEN = json.loads((ROOT / "test/golden/protein_metrics.json").read_text())


def directly(scores, targets):
    """The best harmonic mean, threshold by threshold."""
    best = 0.0
    for threshold in np.unique(scores[np.isfinite(scores)]):
        predicted = scores >= threshold
        right = (predicted & targets).sum(axis=1)
        any_predicted = predicted.any(axis=1)
        precision = (right[any_predicted] / predicted.sum(axis=1)[any_predicted]).mean()
        recall = (right / np.maximum(targets.sum(axis=1), 1)).mean()
        if precision + recall > 0:
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


@pytest.mark.parametrize("case", ["tiny", "larger"])
def test_scores_equal_the_golden_ones(case):
    scores, targets = np.array(GOLDEN[case]["pred"]), np.array(GOLDEN[case]["true"], dtype=bool)
    expected, found = GOLDEN[case]["expected"], fmax(scores, targets)
    assert found.value == pytest.approx(expected["fmax"], abs=1e-12)
    assert found.threshold == expected["threshold"]
    assert micro_average_precision(scores, targets) == pytest.approx(expected["aupr_micro"], abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_fmax_equals_every_threshold_tried(seed):
    rng = np.random.default_rng(seed)
    scores, targets = rng.integers(0, 9, (30, 7)) / 8, rng.random((30, 7)) < 0.2
    scores[3] = -np.inf
    assert fmax(scores, targets).value == pytest.approx(directly(scores, targets), abs=1e-12)


def test_equal_scores_leave_no_order():
    scores, targets = np.full((1, 4), 0.5), np.array([[True, False, False, True]])
    assert micro_average_precision(scores, targets) == micro_average_precision(scores, targets[:, ::-1]) == 0.5
    assert fmax(scores, targets) == pytest.approx((2 / 3, 0.5, 0.5, 1.0))


def evaluation_of(scores, targets, index=None, max_non_finite=0.5, failures=()):
    index = np.arange(len(scores)) if index is None else np.array(index)
    gathered = Gathered({"index": index, "scores": np.array(scores)}, list(failures), len(targets), seconds=2.0)
    names, items = ("a", "b", "c"), [(f"p{row}", f"/x/p{row}.pdb") for row in range(len(targets))]
    return FunctionEvaluation(gathered, np.array(targets, dtype=bool), names, items, max_non_finite)


def test_an_unreadable_protein_lowers_the_coverage_and_nothing_else(tmp_path):
    tiny = GOLDEN["tiny"]
    targets = [tiny["true"][0], [1, 1, 1], *tiny["true"][1:]]
    failure = {"path": "/x/p1.pdb", "reason": "no residue", "index": 1}
    evaluation = evaluation_of(tiny["pred"], targets, [0, 2, 3], failures=[failure])
    summary = evaluation.summary()
    assert summary["fmax"] == pytest.approx(tiny["expected"]["fmax"], abs=1e-12)
    assert (summary["coverage"], summary["proteins_read"], summary["proteins_listed"]) == (0.75, 3, 4)
    evaluation.write(tmp_path)
    rows = {path.name: list(csv.DictReader(path.open())) for path in tmp_path.glob("*.csv")}
    assert [row["id"] for row in rows["proteins.csv"]] == ["p2", "p0", "p3"]
    assert [(row["known"], row["predicted"]) for row in rows["proteins.csv"]] == [
        ("b", "a;b"),
        ("a", "a"),
        ("b;c", "b;c"),
    ]
    assert [(row["id"], row["reason"]) for row in rows["unreadable.csv"]] == [("p1", "no residue")]
    assert [row["proteins"] for row in rows["per_label.csv"]] == ["1", "2", "1"]


def test_outputs_that_are_not_finite_predict_nothing():
    scores = [[0.9, 0.1, 0.2], [np.nan, np.nan, np.nan]]
    evaluation = evaluation_of(scores, [[1, 0, 0], [1, 0, 0]])
    assert evaluation.fmax.recall == 0.5 and evaluation.fmax.precision == 1
    assert "NaN or infinite outputs for 1 of 2" in evaluation.headline()
    assert np.isnan(evaluation_of(scores, [[1, 0, 0], [1, 0, 0]], max_non_finite=0.1).score)


def test_without_labels_there_is_no_score():
    evaluation = evaluation_of([[0.5, 0.5, 0.5]], [[0, 0, 0]])
    assert evaluation.score == float("-inf")
    assert evaluation.headline() == "no score, because no readable protein has a label, on 1 of 1 proteins"


def test_equal_fmax_is_told_apart_by_the_area_under_the_curve():
    targets = [[True, False, False], [False, True, True]]
    good = evaluation_of([[0.9, 0.2, 0.1], [0.1, 0.8, 0.7]], targets)
    worse = evaluation_of([[0.9, 0.2, 0.1], [0.1, 0.8, 0.15]], targets)
    assert good.tie_break == 1.0 > worse.tie_break == worse.aupr
