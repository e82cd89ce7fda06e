"""Predictions are merged by item, whatever the batches; scores agree with counting by hand."""

import math

import numpy as np
import torch

from engine.evaluation import evaluate_predictions, predict_items
from engine.ranks import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"))


def batch(index, label, logits, failures=()):
    return {"index": torch.tensor(index), "label": torch.tensor(label), "logits": logits, "failures": list(failures)}


def predict(batches, num_items, num_views):
    return predict_items(batches, lambda b: b["logits"], ALONE, num_items, num_views)


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
    np.testing.assert_allclose(predictions.probabilities, logits.double().softmax(-1).mean(1).numpy(), atol=1e-12)
    evaluation = evaluate_predictions(predictions, item="video", view="clip")
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


def test_nothing_could_be_read():
    failure = {"index": 0, "path": "a", "reason": "b"}
    predictions = predict([batch([], [], torch.zeros(0), [failure])], num_items=1, num_views=1)
    evaluation = evaluate_predictions(predictions, item="video", view="clip")
    assert evaluation.score == -1
    assert evaluation.num_read == 0 and math.isnan(evaluation.item_scores.top1)
    assert evaluation.summary()["coverage"] == 0
