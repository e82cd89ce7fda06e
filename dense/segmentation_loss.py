"""The loss of segmentors: cross entropy of every pixel, at the resolution of the labels.

Reference: OpenMMLab's mmsegmentation 0.25, with which EurNet's and HorNet's segmentors were trained: logits are first
enlarged to the size of the labels, and the mean is over all pixels, including those without a label.
"""

import torch
import torch.nn.functional as F

from dense.segmentor import SegmentationLogits
from dense.upernet import resize

IGNORED = 255
"""The label of pixels that losses and scores ignore."""


def pixel_loss(logits: torch.Tensor, labels: torch.Tensor, over_all: bool = True) -> torch.Tensor:
    """Mean cross entropy of logits [B, K, h, w] for labels [B, H, W], int64, 255 for ignored pixels.

    `over_all`: the mean is over all pixels, and ignored ones add 0, as in the authors' runs; otherwise it is over those
    with a label, and 0 if there are none.
    """
    logits = resize(logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits, labels.shape[1:])
    total = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    return total / (labels.numel() if over_all else (labels != IGNORED).sum().clamp(min=1))


def segmentation_losses(
    outputs: SegmentationLogits, labels: torch.Tensor, auxiliary_weight: float = 0.4, over_all: bool = True
) -> dict[str, torch.Tensor]:
    """The weighted losses of the heads by name, `decode` and (if there is such a head) `auxiliary`. Train on their sum.

    Shapes: labels [B, H, W], int64, 255 for ignored pixels.
    """
    losses = {"decode": pixel_loss(outputs.decode, labels, over_all)}
    if outputs.auxiliary is not None:
        losses["auxiliary"] = auxiliary_weight * pixel_loss(outputs.auxiliary, labels, over_all)
    return losses
