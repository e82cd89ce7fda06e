"""Draws the masks of boxes into whole images."""

import torch
import torch.nn.functional as F

VALUES_AT_ONCE = 2**24
"""Pixels of masks that a GPU interpolates at once: 64 MB in float32, and twice that for their positions."""


def paste_masks(
    masks: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int], threshold: float = 0.5
) -> torch.Tensor:
    """Stretches each mask over its box, bilinearly, and marks the pixels where it is `threshold` or more.

    Args:
        masks: [N, h, w], probabilities.
        boxes: [N, 4], in pixels of the image; parts outside of it are cut off.
        size: (H, W) of the image.

    Returns:
        [N, H, W], bool. Positions are pixels' centers, half a pixel from their corners; outside its mask a box has
        probability 0, so that its rim fades.
    """
    height, width = size
    result = torch.zeros(len(masks), height, width, dtype=torch.bool, device=masks.device)
    masks, boxes = masks.float(), boxes.to(masks.device)
    on_cpu = masks.device.type == "cpu"
    for number in range(len(masks)) if on_cpu else ():
        _paste(masks[number : number + 1], boxes[number : number + 1], result[number : number + 1], threshold)
    if not on_cpu:
        step = max(1, VALUES_AT_ONCE // (height * width))
        for start in range(0, len(masks), step):
            part = slice(start, start + step)
            _paste(masks[part], boxes[part], result[part], threshold)
    return result


def _paste(masks: torch.Tensor, boxes: torch.Tensor, result: torch.Tensor, threshold: float) -> None:
    """Fills `result` [N, H, W] in the part of the image that some box touches."""
    height, width = result.shape[1:]
    left, top = (int(x) for x in boxes[:, :2].amin(0).floor().sub(1).clamp(min=0).tolist())
    right, bottom = (int(x) for x in boxes[:, 2:].amax(0).ceil().add(1).tolist())
    right, bottom = min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        return
    x = _relative(torch.arange(left, right, device=masks.device) + 0.5, boxes[:, 0], boxes[:, 2])
    y = _relative(torch.arange(top, bottom, device=masks.device) + 0.5, boxes[:, 1], boxes[:, 3])
    grid = torch.stack((x[:, None].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x.shape[1])), dim=-1)
    values = F.grid_sample(masks[:, None], grid.to(masks.dtype), align_corners=False)[:, 0]
    result[:, top:bottom, left:right] = values >= threshold


def _relative(positions: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Where positions [P] lie in spans [N]: -1 at the start, 1 at the end; [N, P]. A span without length gives 0s."""
    sides = (end - start)[:, None]
    relative = (positions - start[:, None]) / sides * 2 - 1
    return torch.where(sides > 0, relative, 0)
