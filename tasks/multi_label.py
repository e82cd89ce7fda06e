"""Training on samples that may have several classes: one yes-or-no question for each class."""

import torch
import torch.nn.functional as F


def multi_label_step(
    logits: torch.Tensor, targets: torch.Tensor, is_mixed: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Mean binary cross entropy of `logits` [B, C] with `targets` [B, C] in 0..1, over samples and classes.

    Besides it what is logged, summed over the samples: `loss`, and where nothing is mixed `top1`, how many best guesses
    are one of the sample's classes.
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets)
    sums = {"loss": loss * len(targets)}
    if not is_mixed:
        sums["top1"] = targets.gather(1, logits.argmax(dim=1, keepdim=True)).sum()
    return loss, sums
