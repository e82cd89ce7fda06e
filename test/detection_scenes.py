"""Boxes, targets and pictures for tests of detection."""

import torch
from torch import nn

from dense.structures import ImageShape, Targets


def random_boxes(number: int, side: float = 50.0) -> torch.Tensor:
    """[number, 4], float64, within a square of `side` pixels."""
    corners = torch.rand(number, 2, 2, dtype=torch.float64).sort(1).values * side
    return corners.flatten(1)


def rectangles(boxes: list[list[int]], labels: list[int], size: tuple[int, int]) -> tuple[torch.Tensor, Targets]:
    """A picture [3, h, w] of rectangles, red, green or blue by their class, and its targets."""
    picture = torch.zeros(3, *size)
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2), label in zip(masks, boxes, labels, strict=True):
        mask[y1:y2, x1:x2] = 1
        picture[label % 3, y1:y2, x1:x2] = 2.0
    return picture, Targets(torch.tensor(boxes).reshape(-1, 4).float(), torch.tensor(labels).long(), masks)


def made_batch() -> tuple[torch.Tensor, list[ImageShape], list[Targets]]:
    """Two pictures of 72 x 104 and 64 x 90 pixels, padded to 72 x 104, with two rectangles and one of them."""
    first, first_targets = rectangles([[8, 10, 50, 40], [60, 20, 100, 70]], [0, 1], (72, 104))
    second, second_targets = rectangles([[20, 8, 80, 56]], [2], (64, 90))
    images = torch.zeros(2, 3, 72, 104)
    images[0], images[1, :, :64, :90] = first, second
    return images, [ImageShape((72, 104)), ImageShape((64, 90), (2.0, 2.0), (32, 45))], [first_targets, second_targets]


def without_objects(targets: Targets) -> Targets:
    """The same image, with nothing in it."""
    return Targets(*(None if field is None else field[:0] for field in targets))


Inputs = tuple[list[torch.Tensor], list[torch.Tensor], list[ImageShape], list[Targets]]


def second_stage_inputs() -> Inputs:
    """Maps of strides 8 and 16 with 8 channels, proposals near the objects, shapes and targets of `made_batch`."""
    _, shapes, targets = made_batch()
    maps = [torch.randn(2, 8, 9 >> i, 13 >> i) for i in range(2)]
    proposals = [target.boxes.repeat(8, 1) + 8 * torch.rand(8 * len(target.boxes), 4) for target in targets]
    return maps, proposals, shapes, targets


def gradients(model: nn.Module, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor | None]:
    """The gradient of the sum of the losses for every parameter by name."""
    model.zero_grad()
    sum(losses.values()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}
