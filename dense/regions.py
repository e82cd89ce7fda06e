"""The second stage's examples: proposals, and the objects themselves, each with its target."""

from typing import NamedTuple

import torch

from dense.assign import IGNORED, MatchRule, assign
from dense.boxes import has_area
from dense.sample import SampleRule, sample
from dense.structures import Targets


class RegionSample(NamedTuple):
    """The N regions of one image that a stage is trained on, the P positive ones first."""

    regions: torch.Tensor
    """[N, 4]"""
    labels: torch.Tensor
    """[N]; the background is the class after the last."""
    objects: torch.Tensor
    """[P], the object of the image that each positive region is an example of."""
    is_object: torch.Tensor
    """[P], bool: the region is the object's own box, not a proposal."""

    @property
    def positive(self) -> torch.Tensor:
        """The positive regions [P, 4]."""
        return self.regions[: len(self.objects)]


def sample_regions(
    proposals: torch.Tensor, target: Targets, num_classes: int, match: MatchRule, rule: SampleRule
) -> RegionSample:
    """Draws from the proposals [P, 4] of an image and the boxes of its objects, apart from objects without area."""
    num_objects = len(target.boxes)
    own = torch.arange(num_objects, device=proposals.device).where(has_area(target.boxes), IGNORED)
    assigned = torch.cat((own, assign(proposals, target.boxes, match, target.ignored)))
    positive, negative = sample(assigned, rule)
    objects = assigned[positive]
    return RegionSample(
        torch.cat((target.boxes, proposals))[torch.cat((positive, negative))],
        torch.cat((target.labels[objects], torch.full_like(negative, num_classes))),
        objects,
        positive < num_objects,
    )
