"""Losses against their equations."""

import torch

from backbones.glnet import Box, TokenLabeling
from tasks.losses import shares, token_labeling_loss


def soft_cross_entropy(logits, target):
    return -(target * logits.log_softmax(-1)).sum(-1).mean()


def test_token_labeling_by_hand():
    """Of 4 cells one is the partner's: the image's label is three quarters its own."""
    torch.manual_seed(0)
    outputs = TokenLabeling(torch.randn(2, 5), torch.randn(2, 4, 5), Box(top=0, left=1, bottom=1, right=2))
    of_image, of_cells = torch.rand(2, 5).softmax(1), torch.rand(2, 4, 5).softmax(2)
    expected = soft_cross_entropy(outputs.logits, 0.75 * of_image + 0.25 * of_image.flip(0))
    expected += 0.3 * soft_cross_entropy(outputs.token_logits, of_cells)
    torch.testing.assert_close(token_labeling_loss(outputs, of_image, of_cells, 0.3), expected)
    alike = of_image[:, None].expand(-1, 4, -1)
    same = token_labeling_loss(outputs, of_image, alike, 0.3)
    torch.testing.assert_close(token_labeling_loss(outputs, of_image, None, 0.3), same)


def test_shares_of_labels():
    labels = torch.tensor([2, 0])
    expected = torch.tensor([[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]])
    torch.testing.assert_close(shares(labels, 4, label_smoothing=0.2), expected)
    assert shares(expected, 4, 0.2) is expected
