"""Training on samples that may have several classes: one binary decision per class."""

import torch
import torch.nn.functional as F


def multi_label_step(
    logits: torch.Tensor, targets: torch.Tensor, is_mixed: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Mean binary cross entropy of `logits` [B, C] with `targets` [B, C] in 0..1, over samples and classes.

    Also returns sums over the samples to log: `loss`, and without mixing `top1`, the number of best guesses that are a
    class of their sample.
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets)
    sums = {"loss": loss * len(targets)}
    if not is_mixed:
        sums["top1"] = targets.gather(1, logits.argmax(dim=1, keepdim=True)).sum()
    return loss, sums
