"""Assignment against loops over boxes and objects, with ties, crowds and images without objects."""

import pytest
import torch
from detection_scenes import random_boxes

from dense.assign import BACKGROUND, IGNORED, MatchRule, assign
from dense.boxes import covered_fraction, has_area, pairwise_iou


def assign_by_loops(boxes, objects, rule, ignored=None):
    """What mmdetection's assigner does, box by box and object by object; objects without area get no boxes."""
    overlaps = pairwise_iou(boxes, objects)
    if rule.ignored_fraction is not None and ignored is not None and len(ignored):
        overlaps[covered_fraction(boxes, ignored).amax(1) > rule.ignored_fraction] = -1
    result = []
    for row in overlaps.tolist():
        best = max(row)
        if best >= rule.positive_iou:
            result.append(row.index(best))
        else:
            result.append(BACKGROUND if 0 <= best < rule.negative_iou else IGNORED)
    for number in range(len(objects) if rule.low_quality_matches else 0):
        column = overlaps[:, number].tolist()
        if max(column) >= rule.min_positive_iou and has_area(objects[number]):
            for box, overlap in enumerate(column):
                if overlap == max(column):
                    result[box] = number
    return result


@pytest.mark.parametrize("low_quality_matches", [True, False])
@pytest.mark.parametrize("limits", [(0.7, 0.3, 0.3), (0.5, 0.5, 0.5), (0.5, 0.4, 0.0)])
@pytest.mark.parametrize("seed", range(3))
def test_assignment_is_that_of_loops(seed, limits, low_quality_matches):
    torch.manual_seed(seed)
    boxes, objects, crowds = random_boxes(200).round(), random_boxes(7).round() + 1, random_boxes(2)
    boxes = torch.cat((boxes, boxes[:50], objects))  # ties
    for fraction in (None, 0.5):
        rule = MatchRule(*limits, low_quality_matches, fraction)
        assert assign(boxes, objects, rule, crowds).tolist() == assign_by_loops(boxes, objects, rule, crowds)


def test_all_boxes_that_tie_for_an_object_become_its_examples_and_the_later_object_wins():
    rule = MatchRule(0.9, 0.3, min_positive_iou=0.3)
    box = torch.tensor([[0.0, 0, 10, 10]])
    objects = torch.tensor([[0.0, 0, 10, 20], [0.0, 0, 20, 10]])  # both overlap with it by a half
    assert assign(box.repeat(3, 1), objects, rule).tolist() == [1, 1, 1]
    assert assign(box, objects, rule._replace(low_quality_matches=False)).tolist() == [IGNORED]


def test_boxes_in_crowds_are_no_background_if_the_rule_says_so():
    boxes = torch.tensor([[0.0, 0, 10, 10], [50.0, 50, 60, 60], [100.0, 100, 110, 110]])
    objects, crowd = boxes[:1], torch.tensor([[45.0, 45, 70, 70]])
    rule = MatchRule(0.5, 0.5, 0.5)
    assert assign(boxes, objects, rule, crowd).tolist() == [0, BACKGROUND, BACKGROUND]
    assert assign(boxes, objects, rule._replace(ignored_fraction=0.5), crowd).tolist() == [0, IGNORED, BACKGROUND]


@pytest.mark.parametrize("flat", [[5.0, 0, 5, 10], [0.0, 5, 10, 5], [10.0, 0, 0, 10]])
def test_objects_without_area_get_no_boxes(flat):
    rule = MatchRule(0.5, 0.4, min_positive_iou=0.0)
    boxes = torch.tensor([[0.0, 0, 10, 10], [50.0, 50, 60, 60]])
    assert assign(boxes, torch.cat((boxes[:1], torch.tensor([flat]))), rule).tolist() == [0, BACKGROUND]
    assert assign(boxes, torch.tensor([flat]), rule).tolist() == [BACKGROUND] * 2


def test_without_objects_all_is_background():
    boxes = torch.rand(5, 4)
    assert assign(boxes, boxes[:0], MatchRule(0.5, 0.5)).tolist() == [BACKGROUND] * 5
    assert assign(boxes[:0], boxes, MatchRule(0.5, 0.5)).shape == (0,)
