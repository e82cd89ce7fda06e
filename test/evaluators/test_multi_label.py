"""Average precision by hand, by definition and against torchmetrics; averaged views; items without labels."""

import math

import numpy as np
import pytest
import torch

from engine.distributed import Ranks
from evaluators.classification import Naming, predictions_from
from evaluators.gather import gather
from evaluators.multi_label import average_precision, evaluate_multi_label, score_multi_label_views

ALONE = Ranks(0, 1, torch.device("cpu"))
NAMING = Naming("video", "clip", "abcd", lambda i: (f"id{i}", f"{i}.mp4"))


def test_average_precision_by_hand():
    scores = np.array([[0.9, 0.5, 0.1], [0.8, 0.5, 0.2], [0.7, 0.9, 0.3], [0.6, 0.1, 0.4]])
    targets = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=bool)
    result = average_precision(scores, targets)
    assert result[0] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert result[1] == pytest.approx((1 / 3 + 2 / 4) / 2)  # a tie: three items score 0.5 or more
    assert math.isnan(result[2])


@pytest.fixture
def random_scores():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 12, (60, 9)) / 12  # with many ties
    return scores, rng.random((60, 9)) < rng.random(9)


def test_average_precision_equals_its_definition(random_scores):
    scores, targets = random_scores
    for label, result in enumerate(average_precision(scores, targets)):
        hits = scores[targets[:, label], label]
        precisions = [targets[scores[:, label] >= score, label].mean() for score in hits]
        assert result == pytest.approx(np.mean(precisions))


@pytest.mark.slow  # torchmetrics takes long to import
@pytest.mark.needs("torchmetrics")
def test_average_precision_equals_torchmetrics(random_scores):
    import torchmetrics.functional.classification as metrics

    scores, targets = random_scores
    expected = metrics.multilabel_average_precision(
        torch.from_numpy(scores), torch.from_numpy(targets).long(), num_labels=9, average="none"
    )
    np.testing.assert_allclose(average_precision(scores, targets), expected.numpy(), atol=1e-6)


@pytest.fixture
def predicted():
    """(logits [5, 3, 4] of views, targets [5, 4], predictions from two batches); the fourth item has no label."""
    torch.manual_seed(0)
    logits = torch.randn(5, 3, 4)
    targets = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=bool)
    first = torch.tensor([0, 2, 0, -1, 1])
    batches = [
        {"index": torch.tensor(rows), "label": first[rows], "logits": logits[rows], "failures": []}
        for rows in ([3, 1], [0, 4, 2])
    ]

    def rows_of(batch):
        logits = batch["logits"].double()
        return score_multi_label_views(batch["index"], batch["label"], logits, lambda rows: targets[rows])

    return logits, targets, predictions_from(gather(batches, rows_of, ALONE, 6), num_views=3, num_classes=4)


def test_views_are_averaged_and_items_counted_once(predicted):
    logits, targets, predictions = predicted
    means = logits.double().sigmoid().mean(1).numpy()
    np.testing.assert_allclose(predictions.probabilities, np.take_along_axis(means, predictions.guesses, 1), atol=1e-12)
    assert (np.diff(predictions.probabilities) <= 0).all()
    evaluation = evaluate_multi_label(predictions, targets, NAMING)
    known = [0, 1, 2, 4]
    expected = [np.mean([targets[known][means[known, c] >= means[i, c], c].mean() for i in known if targets[i, c]])
                for c in range(4)]  # fmt: skip
    assert evaluation.score == pytest.approx(np.mean(expected)) == evaluation.summary()["mean_average_precision"]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[known].double(), torch.from_numpy(targets[known]).double()[:, None].expand(-1, 3, -1)
    )
    assert evaluation.loss == pytest.approx(loss.item())
    assert evaluation.view_top1 == np.mean([targets[i, logits[i].argmax(1).numpy()].mean() for i in known])
    assert evaluation.item_scores.top1 == np.mean([targets[i, means[i].argmax()] for i in known])
    assert evaluation.view_top5 == evaluation.item_scores.top5 == 1
    assert (evaluation.summary()["videos_read"], evaluation.summary()["videos_scored"]) == (5, 4)


def test_report(predicted, tmp_path):
    evaluation = evaluate_multi_label(predicted[2], predicted[1], NAMING)
    evaluation.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "per_class.csv", "predictions.csv", "unreadable.csv"
    ]  # fmt: skip
    per_class = (tmp_path / "per_class.csv").read_text().splitlines()
    assert per_class[0] == "label,class,videos,average_precision" and per_class[1].startswith("0,a,2,")
    rows = [line.split(",")[3] for line in (tmp_path / "predictions.csv").read_text().splitlines()[1:]]
    assert rows == ["a; b", "c", "a; c; d", "", "b"]
    assert f"mean average precision {100 * evaluation.score:6.2f} %" in "\n".join(evaluation.lines())


def test_an_evaluation_without_labels(predicted):
    evaluation = evaluate_multi_label(predicted[2], np.zeros((5, 4), dtype=bool), NAMING)
    assert evaluation.score == -math.inf and math.isnan(evaluation.item_scores.mean_average_precision)


def test_an_item_with_non_finite_outputs_is_never_found(predicted):
    logits, targets, _ = predicted
    logits = logits.clone()
    logits[0, 1, 2] = math.nan
    first = torch.tensor([0, 2, 0, -1, 1])
    batches = [{"index": torch.arange(5), "label": first, "logits": logits, "failures": []}]

    def rows_of(batch):
        return score_multi_label_views(batch["index"], batch["label"], batch["logits"].double(), lambda rows: targets)

    predictions = predictions_from(gather(batches, rows_of, ALONE, 6), num_views=3, num_classes=4)
    evaluation = evaluate_multi_label(predictions, targets, NAMING, max_non_finite=0.2)
    means = logits.double().sigmoid().mean(1).numpy()
    rest = average_precision(means[[1, 2, 4]], targets[[1, 2, 4]])  # the recall of classes 0 and 1 lacks one of two
    np.testing.assert_allclose(evaluation.item_scores.average_precision, rest * [0.5, 0.5, 1, 1])
    assert evaluation.score == evaluation.item_scores.mean_average_precision
    assert evaluation.item_scores.top5 == 3 / 4 and evaluation.view_top5 == pytest.approx(11 / 12)
    assert math.isfinite(evaluation.loss) and evaluation.summary()["videos_non_finite"] == 1
    assert math.isnan(evaluate_multi_label(predictions, targets, NAMING).score)
    assert (
        "NaN or infinite outputs for 1 of 5, more than" in evaluate_multi_label(predictions, targets, NAMING).headline()
    )
