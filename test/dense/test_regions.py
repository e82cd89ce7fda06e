"""Which regions a stage learns from, and what each is to become."""

import torch
from detection_scenes import rectangles, without_objects

from dense.assign import MatchRule
from dense.boxes import pairwise_iou
from dense.regions import sample_regions
from dense.sample import SampleRule

MATCH = MatchRule(0.5, 0.5, 0.5)


def proposals_and_target():
    _, target = rectangles([[8, 10, 50, 40], [60, 20, 100, 70]], [4, 1], (72, 104))
    torch.manual_seed(0)
    near = target.boxes.repeat(20, 1) + 12 * torch.rand(40, 4) - 6
    far = torch.tensor([[0.0, 50, 20, 70]]).repeat(30, 1) + torch.rand(30, 4)
    return torch.cat((far, near)), target


def test_positive_regions_come_first_with_their_objects_and_labels():
    proposals, target = proposals_and_target()
    found = sample_regions(proposals, target, 5, MATCH, SampleRule(10**6, 1.0))
    num_positive = len(found.objects)
    assert found.regions.shape == (72, 4)
    assert torch.equal(found.regions[:2], target.boxes)  # an object's own box is a region, too
    assert found.is_object.tolist() == [True] * 2 + [False] * (num_positive - 2)
    assert torch.equal(found.positive, found.regions[:num_positive])
    overlaps = pairwise_iou(found.regions, target.boxes)
    assert (overlaps[:num_positive].amax(1) >= 0.5).all()
    assert torch.equal(overlaps[:num_positive].argmax(1), found.objects)
    assert (overlaps[num_positive:].amax(1) < 0.5).all()
    assert torch.equal(found.labels[:num_positive], target.labels[found.objects])
    assert (found.labels[num_positive:] == 5).all()


def test_numbers_are_limited():
    proposals, target = proposals_and_target()
    found = sample_regions(proposals, target, 5, MATCH, SampleRule(16, 0.25))
    assert (len(found.regions), len(found.objects), len(found.is_object)) == (16, 4, 4)


def test_without_objects_all_regions_are_background():
    proposals, target = proposals_and_target()
    found = sample_regions(proposals, without_objects(target), 5, MATCH, SampleRule(16, 0.25))
    assert (found.labels == 5).all()
    assert len(found.positive) == 0


def test_without_proposals_the_objects_are_the_regions():
    proposals, target = proposals_and_target()
    found = sample_regions(proposals[:0], target, 5, MATCH, SampleRule(16, 0.25))
    assert torch.equal(found.regions, target.boxes)
