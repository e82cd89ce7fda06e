"""Losses of link prediction."""

import torch
import torch.nn.functional as F


def softmax_loss(scores: torch.Tensor, answers: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Cross entropy [B] of the answers [B] over all entities, leaving out other right answers.

    Args:
        scores: [B, N].
        answers: [B].
        known: rows and entities [2, M] of right answers; the answers may be among them.
    """
    left_out = torch.zeros_like(scores, dtype=torch.bool)
    left_out[tuple(known)] = True
    left_out = left_out.scatter(1, answers.unsqueeze(1), False)
    return F.cross_entropy(scores.masked_fill(left_out, float("-inf")), answers, reduction="none")


def negatives_loss(
    scores: torch.Tensor, answers: torch.Tensor, negatives: torch.Tensor, temperature: float
) -> torch.Tensor:
    r"""Binary cross entropy [B] of the answer and of sampled entities, half the weight each.

    Entities are weighted by :math:`\mathrm{softmax}(s / T)` within a question, without a gradient (self-adversarial
    sampling, Sun et al., RotatE, ICLR 2019, https://arxiv.org/abs/1902.10197).

    Args:
        scores: [B, N].
        answers: [B].
        negatives: [B, K].
        temperature: T.
    """
    drawn = scores.gather(1, negatives)
    weight = (drawn.detach() / temperature).softmax(1)
    of_answer = F.softplus(-scores.gather(1, answers.unsqueeze(1)).squeeze(1))
    return (of_answer + (weight * F.softplus(drawn)).sum(1)) / 2
