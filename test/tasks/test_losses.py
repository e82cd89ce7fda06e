"""Losses equal their equations."""

import torch

from backbones.glnet import Box, TokenLabeling
from tasks.losses import class_probabilities, token_labeling_loss


def soft_cross_entropy(logits, target):
    return -(target * logits.log_softmax(-1)).sum(-1).mean()


def test_token_labeling_by_hand():
    """One of 4 cells comes from the partner, so the image keeps three quarters of its own label."""
    torch.manual_seed(0)
    outputs = TokenLabeling(torch.randn(2, 5), torch.randn(2, 4, 5), Box(top=0, left=1, bottom=1, right=2))
    image_targets, cell_targets = torch.rand(2, 5).softmax(1), torch.rand(2, 4, 5).softmax(2)
    expected = soft_cross_entropy(outputs.logits, 0.75 * image_targets + 0.25 * image_targets.flip(0))
    expected += 0.3 * soft_cross_entropy(outputs.token_logits, cell_targets)
    torch.testing.assert_close(token_labeling_loss(outputs, image_targets, cell_targets, 0.3), expected)
    repeated = image_targets[:, None].expand(-1, 4, -1)
    same = token_labeling_loss(outputs, image_targets, repeated, 0.3)
    torch.testing.assert_close(token_labeling_loss(outputs, image_targets, None, 0.3), same)


def test_class_probabilities_of_labels():
    labels = torch.tensor([2, 0])
    expected = torch.tensor([[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]])
    torch.testing.assert_close(class_probabilities(labels, 4, label_smoothing=0.2), expected)
    assert class_probabilities(expected, 4, 0.2) is expected
