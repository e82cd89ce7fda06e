"""Which boxes are kept: per level, per image, per class."""

import torch
from detection_scenes import random_boxes
from torchvision.ops import box_iou

from dense.proposals import DetectionRule, ProposalRule, best_of_level, select_detections, select_proposals


def nms_by_loops(boxes, scores, groups, limit):
    """Indices of what stays, best first: a box goes if a better one of its group that stays overlaps with it."""
    kept = []
    for i in scores.argsort(descending=True).tolist():
        same = [j for j in kept if groups[j] == groups[i]]
        if not same or box_iou(boxes[i : i + 1], boxes[same]).max() <= limit:
            kept.append(i)
    return kept


def test_the_best_of_a_level_keep_their_differences_and_anchors():
    torch.manual_seed(0)
    scores, differences, anchors = torch.rand(2, 9), torch.rand(2, 9, 4), torch.rand(9, 4)
    best = best_of_level(scores, differences, anchors, 3)
    for image in range(2):
        order = scores[image].argsort(descending=True)[:3]
        for found, expected in zip(best, (scores[image], differences[image], anchors), strict=True):
            assert torch.equal(found[image], expected[order])
    everything = best_of_level(scores, differences, anchors, 9)
    assert torch.equal(everything[0], scores)
    assert torch.equal(everything[2][1], anchors)


def test_proposals_are_clipped_and_those_that_overlap_on_their_level_go():
    torch.manual_seed(1)
    boxes = torch.stack((random_boxes(60), random_boxes(60)))
    scores, levels = torch.rand(2, 60).double(), torch.arange(60) % 2
    sizes = [(40, 30), (25, 50)]
    found = select_proposals(boxes, scores, levels, sizes, ProposalRule(0, 12, 0.4))
    for image, (height, width) in enumerate(sizes):
        limits = torch.tensor([width, height] * 2)
        clipped = torch.minimum(boxes[image], limits)
        wanted = ((clipped[:, 2:] - clipped[:, :2]) > 0).all(1).nonzero().flatten()
        assert len(wanted) < 60
        kept = wanted[nms_by_loops(clipped[wanted], scores[image][wanted], levels[wanted], 0.4)][:12]
        torch.testing.assert_close(found[image][0], clipped[kept])
        assert torch.equal(found[image][1], scores[image][kept])


def test_detections_of_different_classes_do_not_suppress_one_another():
    torch.manual_seed(2)
    boxes, scores, labels = random_boxes(50), torch.rand(50).double(), torch.arange(50) % 3
    found_boxes, found_scores, found_labels = select_detections(boxes, scores, labels, DetectionRule(0.0, 0.3, 15))
    kept = nms_by_loops(boxes, scores, labels, 0.3)[:15]
    assert torch.equal(found_boxes, boxes[kept])
    assert torch.equal(found_scores, scores[kept])
    assert torch.equal(found_labels, labels[kept])
