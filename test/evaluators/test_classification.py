"""Predictions are merged by item, however they were batched, and the scores equal counts by hand."""

import contextlib
import math

import numpy as np
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
