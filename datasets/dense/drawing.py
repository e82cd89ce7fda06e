"""Draws boxes, masks and label maps on their image, to inspect data and predictions.

Built on torchvision.utils; colors are a fixed function of the class.
"""

import colorsys
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from datasets.dense.label_values import IGNORED

OPACITY = 0.45  # of masks and label maps
IGNORED_COLOR = (160, 160, 160)  # of the boxes of crowds
MAX_TEXT = 40  # characters of a class name


@cache
def class_color(label: int) -> tuple[int, int, int]:
    """The color of a class, red, green and blue, the same in every image.

    Hues follow the golden ratio, so that close labels have distant hues; every 6 classes the brightness changes.
    """
    hue = (0.58 + label * (5**0.5 - 1) / 2) % 1
    value = (1.0, 0.72, 0.9, 0.58)[label // 6 % 4]
    saturation = (0.8, 0.95, 0.5)[label // 24 % 3]
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))


def palette(num_classes: int) -> np.ndarray:
    """The colors of the classes: uint8 [num_classes, 3]; for PNGs in palette mode, too."""
    return np.array([class_color(label) for label in range(num_classes)], np.uint8).reshape(-1, 3)


def draw_scene(
    image: torch.Tensor,
    boxes: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
    masks: torch.Tensor | None = None,
    label_map: torch.Tensor | None = None,
    class_names: Sequence[str] = (),
    scores: torch.Tensor | None = None,
    ignored: torch.Tensor | None = None,
    min_short_side: int = 0,
) -> torch.Tensor:
    """Draws annotations or predictions on an image: uint8 [3, h, w] -> uint8 [3, h, w].

    Args:
        image: uint8 [3, h, w].
        boxes: [N, 4], x1, y1, x2, y2 in pixels.
        labels: [N], classes of the boxes or masks.
        masks: [N, h, w], bool or 0 and 1.
        label_map: [h, w], the class of each pixel; 255 is left as it is.
        class_names: names by label; without them boxes get their label.
        scores: [N], from 0 to 1, written behind the class.
        ignored: [M, 4], boxes of crowds, drawn in gray.
        min_short_side: a smaller image is enlarged by a whole factor up to this side, in pixels, so that text can be
            read. The result then has the larger size.
    """
    image = image.as_subclass(torch.Tensor).cpu()
    factor = max(1, -(-min_short_side // min(image.shape[-2:])))
    image = _enlarge(image, factor)
    if label_map is not None:
        image = _draw_label_map(image, _enlarge(label_map.cpu(), factor))
    if masks is not None and len(masks):
        image = _draw_masks(image, _enlarge(masks.as_subclass(torch.Tensor).cpu(), factor).bool(), labels)
    width = max(1, round(min(image.shape[-2:]) / 250))
    if ignored is not None and len(ignored):
        image = _draw_boxes(image, ignored * factor, ["crowd"] * len(ignored), [IGNORED_COLOR] * len(ignored), width)
    if boxes is not None and len(boxes):
        labels = torch.zeros(len(boxes), dtype=torch.int64) if labels is None else labels
        texts = [_text(int(label), class_names) for label in labels]
        if scores is not None:
            texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores.tolist(), strict=True)]
        image = _draw_boxes(image, boxes * factor, texts, _colors(labels), width)
    return image


def _enlarge(values: torch.Tensor, factor: int) -> torch.Tensor:
    """Repeats every pixel of [..., h, w] `factor` times in both directions."""
    return values.repeat_interleave(factor, -1).repeat_interleave(factor, -2) if factor > 1 else values


def _text(label: int, class_names: Sequence[str]) -> str:
    text = class_names[label] if label < len(class_names) else str(label)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def _colors(labels: torch.Tensor) -> list[tuple[int, int, int]]:
    return [class_color(int(label)) for label in labels]


def _draw_label_map(image: torch.Tensor, label_map: torch.Tensor) -> torch.Tensor:
    from torchvision.utils import draw_segmentation_masks

    found = [label for label in label_map.unique().tolist() if label != IGNORED]
    if not found:
        return image
    layers = torch.stack([label_map == label for label in found])
    return draw_segmentation_masks(image, layers, alpha=OPACITY, colors=[class_color(label) for label in found])


def _draw_masks(image: torch.Tensor, masks: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    """Masks bool [N, h, w] in the colors of their classes, or all different without classes; rims are opaque.

    Where masks overlap, the first one shows: torchvision would paint that black.
    """
    from torchvision.utils import draw_segmentation_masks

    colors = [class_color(number) for number in range(len(masks))] if labels is None else _colors(labels)
    inner = -torch.nn.functional.max_pool2d(-masks[:, None].float(), 3, 1, 1)[:, 0]
    shown = masks & (masks.cumsum(0) == 1)  # without what an earlier one covers
    image = draw_segmentation_masks(image, shown, alpha=OPACITY, colors=colors)
    return draw_segmentation_masks(image, shown & (inner < 0.5), alpha=1.0, colors=colors)


def _draw_boxes(
    image: torch.Tensor, boxes: torch.Tensor, texts: list[str], colors: list[tuple[int, int, int]], width: int
) -> torch.Tensor:
    from matplotlib.font_manager import FontProperties, findfont
    from torchvision.utils import draw_bounding_boxes

    size = max(10, round(min(image.shape[-2:]) / 28))
    dark = [sum(weight * part for weight, part in zip((0.3, 0.59, 0.11), color, strict=True)) < 140 for color in colors]
    return draw_bounding_boxes(
        image,
        _drawable(boxes.as_subclass(torch.Tensor).cpu(), image.shape[-2:]),
        texts,
        colors=colors,
        width=width,
        font=findfont(FontProperties()),  # matplotlib's own, which has the letters of many scripts
        font_size=size,
        label_colors=["white" if is_dark else "black" for is_dark in dark],
        fill_labels=True,
    )


def _drawable(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Boxes [N, 4] clipped to the picture (h, w), with the lower corner last: others cannot be drawn."""
    limits = torch.tensor([size[1] - 1, size[0] - 1] * 2, dtype=boxes.dtype)
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    return torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2])], 1)
