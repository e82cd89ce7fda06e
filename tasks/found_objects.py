"""The objects that a detector found in an image, with masks as run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dense.paste import paste_masks
from dense.structures import Detections


@dataclass(frozen=True)
class FoundObjects:
    """Objects, best first, in pixels of the file; what `evaluators.detection.rows_of_images` takes."""

    boxes: torch.Tensor
    """[N, 4]: x1, y1, x2, y2."""
    scores: torch.Tensor
    """[N], from 0 to 1."""
    labels: torch.Tensor
    """[N], from 0."""
    rles: Sequence[bytes] | None
    """N masks as COCO's compressed run lengths; None: the detector predicts no masks."""
    size: tuple[int, int]
    """(H, W) of the file."""
    is_finite: bool = True
    """Whether none of the outputs is NaN or infinite."""
    numbers: Sequence[int] | None = None
    """N track numbers; None: the objects are not tracked."""

    def above(self, score: float) -> FoundObjects:
        """The objects with at least this score."""
        rows = (self.scores >= score).nonzero().flatten()
        of_rows = {name: getattr(self, name)[rows] for name in ("boxes", "scores", "labels")}
        for name in ("rles", "numbers"):
            values = getattr(self, name)
            of_rows[name] = None if values is None else [values[row] for row in rows.tolist()]
        return replace(self, **of_rows)

    def masks(self) -> torch.Tensor | None:
        """bool [N, H, W]; None without masks."""
        from pycocotools import mask as coco_mask

        if self.rles is None:
            return None
        decoded = [coco_mask.decode({"size": list(self.size), "counts": rle}) for rle in self.rles]
        return torch.from_numpy(np.stack(decoded)).bool() if decoded else torch.zeros(0, *self.size, dtype=torch.bool)


def objects_of(found: Detections, size: tuple[int, int]) -> FoundObjects:
    """Detections in a file of `size` (H, W), their masks pasted into it, on the CPU."""
    from pycocotools import mask as coco_mask

    rles = None
    if found.masks is not None:
        masks = paste_masks(found.masks, found.boxes, size).cpu().numpy().astype(np.uint8)
        rles = [coco_mask.encode(np.asfortranarray(mask))["counts"] for mask in masks]
    boxes, scores, labels = (part.cpu() for part in (found.boxes, found.scores, found.labels))
    return FoundObjects(boxes, scores, labels, rles, size, bool(found.is_finite))
