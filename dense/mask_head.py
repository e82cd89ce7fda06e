"""The mask of the object in each region.

Paper: He et al., Mask R-CNN, ICCV 2017, https://arxiv.org/abs/1703.06870 (section 3)
Reference: OpenMMLab's mmdetection 2.25, whose parameter names these are.

Done differently here: the masks of all objects are pooled in place, without a copy for each region.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_align

from dense.boxes import clip_boxes
from dense.layers import ConvNormAct
from dense.losses import binary_cross_entropy, connected_zero
from dense.regions import RegionSample
from dense.structures import Targets


class MaskHead(nn.Module):
    r"""3 x 3 convolutions with ReLU, a transposed convolution that doubles the sides, and a logit for each class.

    The loss is the mean binary cross-entropy over the positions of all positive regions, only for the true class.

    Args:
        num_channels: of the pooled regions, and of every layer.
        num_classes: K.
        num_convs: 3 x 3 convolutions.
        norm: of the convolutions, see `dense.layers.NORMS`; None: none, and they have biases.
        region_size: side of the pooled regions.

    Shapes: [N, C, region_size, region_size] to logits [N, K, 2 region_size, 2 region_size].
    """

    def __init__(
        self, num_channels: int, num_classes: int, num_convs: int = 4, norm: str | None = None, region_size: int = 14
    ):
        super().__init__()
        self.region_size = region_size
        self.convs = nn.ModuleList(ConvNormAct(num_channels, num_channels, 3, norm) for _ in range(num_convs))
        self.upsample = nn.ConvTranspose2d(num_channels, num_channels, kernel_size=2, stride=2)
        for layer in (*(conv.conv for conv in self.convs), self.upsample):
            _init(layer)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained output layer on top."""
        width, device = self.upsample.out_channels, self.upsample.weight.device
        self.conv_logits = nn.Conv2d(width, num_classes, kernel_size=1, device=device)
        _init(self.conv_logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = conv(x)
        return self.conv_logits(F.relu(self.upsample(x), inplace=True))

    def loss(self, logits: torch.Tensor, samples: Sequence[RegionSample], targets: Sequence[Targets]) -> torch.Tensor:
        """The loss of what `forward` returned for the positive regions of a batch; there is at least one.

        Raises:
            ValueError: an image's objects have no masks.
        """
        if any(target.masks is None and len(target.boxes) > 0 for target in targets):
            raise ValueError("a mask head needs masks, but the targets have none; head='faster_rcnn' does without")
        truth = torch.cat(
            [
                crop_masks(target.masks, sample.positive, sample.objects, logits.shape[-1])
                for sample, target in zip(samples, targets, strict=True)
                if len(sample.objects) > 0
            ]
        )
        labels = torch.cat([sample.labels[: len(sample.objects)] for sample in samples])
        chosen = masks_of(logits, labels)
        return binary_cross_entropy(chosen, truth) / chosen.numel()

    def no_loss(self) -> torch.Tensor:
        """The loss of a batch without positive regions: 0, with a gradient of 0 for every parameter."""
        return connected_zero(self.parameters())


def masks_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The maps [N, h, w] of [N, K, h, w] for the classes [N]."""
    return logits[torch.arange(len(labels), device=labels.device), labels]


def crop_masks(masks: torch.Tensor, boxes: torch.Tensor, index: torch.Tensor, size: int) -> torch.Tensor:
    """The masks [G, h, w] of the objects `index` [N] inside the boxes [N, 4]: bool [N, size, size].

    A cell belongs to the object if at least half of it does, by RoIAlign.
    """
    regions = torch.cat((index[:, None].to(boxes.dtype), clip_boxes(boxes, tuple(masks.shape[1:]))), dim=1)
    return roi_align(masks[:, None].to(boxes.dtype), regions, size, aligned=True)[:, 0] >= 0.5


def _init(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
