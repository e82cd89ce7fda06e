"""Tracking by overlap: objects keep their numbers from frame to frame.

Paper: Bochinski et al., High-Speed Tracking-by-Detection Without Using Image Information, AVSS 2017 (the IOU tracker)

Done differently here: a track survives a few frames without a detection; pairs are matched by overlap, largest first,
and only within a class.
"""

from dataclasses import dataclass

import torch
from torchvision.ops import box_iou


@dataclass
class Track:
    """An object over time."""

    number: int
    box: torch.Tensor
    label: int
    num_missed: int = 0
    """Frames since it was last detected."""


class Tracker:
    """Numbers the detections of successive frames.

    >>> tracker = Tracker()
    >>> tracker(torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]]), torch.tensor([0, 1]))
    [0, 1]
    >>> tracker(torch.tensor([[21.0, 0, 31, 10]]), torch.tensor([1]))
    [1]

    Args:
        iou_threshold: minimum overlap of an object with its box in the previous frame.
        max_missed: frames in a row without a detection after which a track ends.
    """

    def __init__(self, iou_threshold: float = 0.3, max_missed: int = 5):
        self.iou_threshold, self.max_missed = iou_threshold, max_missed
        self.tracks: list[Track] = []
        self._num_tracks = 0

    def __call__(self, boxes: torch.Tensor, labels: torch.Tensor) -> list[int]:
        """The number of the track of each box [N, 4] with its class [N]; new objects get new numbers."""
        numbers = [-1] * len(boxes)
        for track in self.tracks:
            track.num_missed += 1
        for row, position in self._pairs(boxes, labels):
            track = self.tracks[position]
            numbers[row], track.box, track.num_missed = track.number, boxes[row], 0
        for row, number in enumerate(numbers):
            if number < 0:
                self.tracks.append(Track(self._num_tracks, boxes[row], int(labels[row])))
                numbers[row] = self._num_tracks
                self._num_tracks += 1
        self.tracks = [track for track in self.tracks if track.num_missed <= self.max_missed]
        return numbers

    def _pairs(self, boxes: torch.Tensor, labels: torch.Tensor) -> list[tuple[int, int]]:
        """(row of a box, position of its track), each at most once, by decreasing overlap."""
        if not self.tracks or not len(boxes):
            return []
        known = torch.stack([track.box for track in self.tracks]).to(boxes)
        same_class = labels[:, None] == torch.tensor([track.label for track in self.tracks], device=labels.device)
        overlap = torch.where(same_class, box_iou(boxes, known), 0)
        rows, positions = (overlap >= self.iou_threshold).nonzero(as_tuple=True)
        order = overlap[rows, positions].argsort(descending=True, stable=True).tolist()
        pairs, taken_rows, taken_positions = [], set(), set()
        for row, position in zip(rows[order].tolist(), positions[order].tolist(), strict=True):
            if row not in taken_rows and position not in taken_positions:
                pairs.append((row, position))
                taken_rows.add(row)
                taken_positions.add(position)
        return pairs
