"""Lists of images of different sizes as one batch, on the device: they are transferred as uint8, unpadded."""

from collections.abc import Sequence

import torch

from datasets.dense.label_values import IGNORED


def batch_size_of(sizes: Sequence[tuple[int, int]], multiple: int = 32) -> tuple[int, int]:
    """The smallest (H, W), multiples of `multiple`, that holds images of these sizes (h, w)."""
    return tuple(-(-max(sides) // multiple) * multiple for sides in zip(*sizes, strict=True))


def normalize_and_pad(
    images: Sequence[torch.Tensor],
    mean: Sequence[float],
    std: Sequence[float],
    multiple: int = 32,
    size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Images uint8 [3, h, w] of any sizes -> float32 [B, 3, H, W], normalized, then padded by 0 right and below.

    Args:
        images: on the device.
        mean, std: of red, green and blue, as fractions of 255.
        multiple: what H and W are multiples of.
        size: (H, W) of the batch; None: the smallest that holds all images.

    Raises ValueError if there are no images or one is larger than `size`.
    """
    if not len(images):
        raise ValueError("a batch needs at least one image")
    size = batch_size_of([image.shape[-2:] for image in images], multiple) if size is None else tuple(size)
    device = images[0].device
    batch = torch.zeros(len(images), 3, *size, device=device)
    mean, std = (255 * torch.tensor(values, device=device)[:, None, None] for values in (mean, std))
    for place, image in zip(batch, images, strict=True):
        _fits(image, size)
        place[:, : image.shape[1], : image.shape[2]] = (image - mean) / std
    return batch


def pad_label_maps(label_maps: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
    """Label maps uint8 [h, w] of any sizes -> int64 [B, H, W], ignored (255) right and below; `size` is (H, W)."""
    batch = torch.full((len(label_maps), *size), IGNORED, dtype=torch.int64, device=label_maps[0].device)
    for place, label_map in zip(batch, label_maps, strict=True):
        _fits(label_map, size)
        place[: label_map.shape[0], : label_map.shape[1]] = label_map
    return batch


def _fits(image: torch.Tensor, size: tuple[int, int]) -> None:
    height, width = image.shape[-2:]
    if height > size[0] or width > size[1]:
        raise ValueError(f"an image of {width} x {height} does not fit in a batch of {size[1]} x {size[0]} (w x h)")
