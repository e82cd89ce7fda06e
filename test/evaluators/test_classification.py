"""Predictions are merged by item, however they were batched, and the scores equal counts by hand."""

import contextlib
import math

import numpy as np
import pytest
import torch

from engine.checkpoint import write_atomically
from engine.distributed import Ranks
from evaluators.classification import Naming, evaluate_predictions, predictions_from, score_views
from evaluators.gather import gather
from evaluators.resumable_predictions import ResumablePredictions

ALONE = Ranks(0, 1, torch.device("cpu"))


def batch(index, label, logits, failures=()):
    return {"index": torch.tensor(index), "label": torch.tensor(label), "logits": logits, "failures": list(failures)}


NAMING = Naming("video", "clip", "abcdefg", lambda i: (f"id{i}", f"{i}.mp4"))


def predict(batches, num_items, num_views, resumable=None):
    def rows_of(batch):
        return score_views(batch["index"], batch["label"], batch["logits"].double())

    return predictions_from(gather(batches, rows_of, ALONE, num_items, resumable), num_views, num_classes=7)


def test_views_are_averaged_and_items_ordered():
    torch.manual_seed(0)
    logits = torch.randn(5, 3, 7)  # [items, views, classes]
    labels = [1, 2, 3, -1, 0]
    failure = {"index": 5, "path": "gone.mp4", "reason": "no such file"}
    predictions = predict(
        [batch([4, 2], [labels[4], labels[2]], logits[[4, 2]]), batch([], [], logits[:0], [failure]),
         batch([0, 1, 3], [labels[i] for i in (0, 1, 3)], logits[[0, 1, 3]])],
        num_items=6, num_views=3,
    )  # fmt: skip
    assert predictions.index.tolist() == [0, 1, 2, 3, 4] and predictions.label.tolist() == labels
    probabilities = logits.double().softmax(-1).mean(1)
    best = probabilities.topk(5)
    np.testing.assert_array_equal(predictions.guesses, best.indices.numpy())
    np.testing.assert_allclose(predictions.probabilities, best.values.numpy(), atol=1e-12)
    assert predictions.num_classes == 7
    evaluation = evaluate_predictions(predictions, NAMING)
    known = [0, 1, 2, 4]
    top1 = [(logits[i].argmax(-1) == labels[i]).double().mean().item() for i in known]
    assert math.isclose(evaluation.view_top1, np.mean(top1))
    best = [logits[i].softmax(-1).mean(0).argmax().item() == labels[i] for i in known]
    assert math.isclose(evaluation.item_scores.top1, np.mean(best))
    loss = torch.nn.functional.cross_entropy(
        logits[known].flatten(0, 1), torch.tensor([1, 2, 3, 0]).repeat_interleave(3)
    )
    assert math.isclose(evaluation.loss, loss.item(), rel_tol=1e-6)
    summary = evaluation.summary()
    assert (summary["videos_read"], summary["videos_scored"], summary["videos_listed"]) == (5, 4, 6)
    assert summary["coverage"] == 5 / 6 and predictions.failures == [failure]


def test_an_evaluation_without_readable_items():
    failure = {"index": 0, "path": "a", "reason": "b"}
    predictions = predict([batch([], [], torch.zeros(0), [failure])], num_items=1, num_views=1)
    evaluation = evaluate_predictions(predictions, NAMING)
    assert evaluation.score == -math.inf
    assert evaluation.num_read == 0 and math.isnan(evaluation.item_scores.top1)
    assert evaluation.summary()["coverage"] == 0


def test_an_interrupted_evaluation_resumes(tmp_path):
    """With the same key. Unreadable items are retried."""
    logits = torch.randn(8, 2, 7, generator=torch.Generator().manual_seed(1))
    failure = {"index": 5, "path": "gone.mp4", "reason": "no such file"}
    batches = [batch([n], [n % 7], logits[[n]]) for n in range(8)]
    broken = batch([4], [4], logits[[4]], [failure])
    whole = predict(batches, num_items=8, num_views=2)

    def interrupted():
        yield from [*batches[:4], broken]
        raise KeyboardInterrupt

    def kept(weights):
        return ResumablePredictions(tmp_path / "kept", {"weights": weights}, ALONE, write_atomically, seconds_between=0)

    with contextlib.suppress(KeyboardInterrupt):
        predict(interrupted(), 8, 2, kept("a"))
    again = kept("a")
    assert again.done == {0, 1, 2, 3}
    rest = predict(batches[4:], 8, 2, again)
    for name in ("index", "label", "guesses", "probabilities", "label_rank", "view_loss", "view_top1", "view_top5"):
        assert np.array_equal(getattr(rest, name), getattr(whole, name)), name
    assert rest.num_kept == 4
    (tmp_path / "kept/00000002.npz").write_bytes(b"damaged")
    assert kept("a").done == {0, 1, 3, 4, 5, 6, 7}
    assert kept("b").done == set() and kept("a").done == set()


def predictions_with(value, views, num_items=200):
    """Of `num_items` videos with 10 views each, all right, the one in the middle has `value` in some `views`."""
    logits = torch.zeros(num_items, 10, 7)
    logits[:, :, 3] = 5
    logits[num_items // 2, views, 3] = value
    batches = [batch([n], [3], logits[[n]]) for n in range(num_items)]
    return predict(batches, num_items, num_views=10)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("views", [[4], list(range(10))])
def test_an_item_with_non_finite_outputs_is_counted_and_wrong(value, views):
    evaluation = evaluate_predictions(predictions_with(value, views), NAMING)
    assert evaluation.score == evaluation.item_scores.top1 == evaluation.item_scores.top5 == 199 / 200
    assert evaluation.item_scores.mean_class_accuracy == 199 / 200 and evaluation.item_scores.confusion.sum() == 199
    assert evaluation.view_top1 == evaluation.view_top5 == pytest.approx(1 - len(views) / 2000)
    assert evaluation.loss == pytest.approx(math.log(1 + 6 * math.exp(-5)))
    assert evaluation.summary()["videos_non_finite"] == 1 and evaluation.summary()["videos_read"] == 200
    assert evaluation.headline().endswith("on 200 of 200 videos; NaN or infinite outputs for 1 of 200")


def test_too_many_non_finite_outputs_leave_no_score():
    predictions = predictions_with(math.nan, [0], num_items=99)
    evaluation = evaluate_predictions(predictions, NAMING)
    assert math.isnan(evaluation.score) and evaluation.item_scores.top1 == 98 / 99
    assert "1 of 99, more than evaluation.max_non_finite=0.01 allows" in "".join(evaluation.lines())
    assert evaluate_predictions(predictions, NAMING, max_non_finite=0.02).score == 98 / 99


def test_a_network_of_nan_is_wrong_everywhere_and_never_the_best():
    """Also where there are fewer than five classes, and with every share allowed."""
    rows = score_views(torch.arange(3), torch.tensor([0, 1, 2]), torch.full((3, 2, 3), math.nan))
    gathered = gather([{"index": torch.arange(3), "failures": []}], lambda _: rows, ALONE, 3)
    predictions = predictions_from(gathered, num_views=2, num_classes=3)
    evaluation = evaluate_predictions(predictions, NAMING)
    assert math.isnan(evaluation.score) and math.isnan(evaluation.loss)
    assert evaluation.accuracies() == dict.fromkeys(evaluation.accuracies(), 0.0)
    assert evaluate_predictions(predictions, NAMING, max_non_finite=1).score == -math.inf


def test_non_finite_outputs_survive_an_interruption(tmp_path):
    logits = torch.zeros(2, 1, 7)
    logits[0, 0, 2] = math.nan
    whole = predict([batch([0, 1], [0, 0], logits)], 2, 1)
    for _ in range(2):
        kept = ResumablePredictions(tmp_path, {}, ALONE, write_atomically, seconds_between=0)
        resumed = predict([] if kept.done else [batch([0, 1], [0, 0], logits)], 2, 1, kept)
    assert resumed.num_kept == 2 and resumed.num_non_finite == whole.num_non_finite == 1
    assert evaluate_predictions(resumed, NAMING).accuracies() == evaluate_predictions(whole, NAMING).accuracies()


def test_rows_of_many_batches_come_in_the_order_of_the_items():
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    batches = [{"index": index, "failures": []} for index in order.split(3)]

    def rows_of(batch):
        index = batch["index"].numpy()
        return {
            "index": index,
            "square": index[:, None] ** 2,
            "parts": [np.full(number % 4, number) for number in index],
        }

    rows = gather(batches, rows_of, ALONE, 1000).rows
    assert (rows["index"] == np.arange(1000)).all() and (rows["square"][:, 0] == np.arange(1000) ** 2).all()
    assert [len(part) for part in rows["parts"]] == [number % 4 for number in range(1000)]
