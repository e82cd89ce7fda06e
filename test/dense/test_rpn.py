"""The region proposal network: losses as sums over all anchors with weights, and what it proposes."""

import torch
import torch.nn.functional as F
from detection_scenes import made_batch, without_objects

from dense.anchors import AnchorRule, flatten_maps, pyramid_anchors, usable_anchors
from dense.assign import BACKGROUND, assign
from dense.box_coder import decode, encode
from dense.boxes import pairwise_iou
from dense.proposals import ProposalRule
from dense.rpn import RPNHead, RPNRule
from dense.sample import SampleRule

STRIDES = (8, 16, 32)
RULE = RPNRule(
    anchors=AnchorRule(scales=(4.0,)),
    sample=SampleRule(10**6, 1.0),
    train_proposals=ProposalRule(50, 20),
    test_proposals=ProposalRule(40, 10),
)


def head_and_maps(rule: RPNRule = RULE) -> tuple[RPNHead, list[torch.Tensor]]:
    torch.manual_seed(0)
    head = RPNHead(16, STRIDES, rule)
    for layer in (head.rpn_conv, head.rpn_cls, head.rpn_reg):
        layer.weight.data *= 20
    return head, [torch.randn(2, 16, 9 >> i or 1, 13 >> i) for i in range(3)]


def test_losses_are_weighted_sums_over_all_anchors():
    images, shapes, targets = made_batch()
    for beta in (0.0, 1 / 9):
        head, maps = head_and_maps(RULE._replace(beta=beta))
        output = head(maps)
        losses = head.losses(output, shapes, targets, tuple(images.shape[2:]))
        anchors = torch.cat(pyramid_anchors(maps, STRIDES, RULE.anchors))
        logits = torch.cat(flatten_maps(output.scores, 1), 1)[..., 0]
        differences = torch.cat(flatten_maps(output.differences, 4), 1)
        classification = regression = count = 0
        for image in range(2):
            usable = usable_anchors(anchors, maps, STRIDES, RULE.anchors, shapes[image].size, (72, 104))
            assigned = torch.full((len(anchors),), -3)
            assigned[usable] = assign(anchors[usable], targets[image].boxes, RULE.match)
            is_object, counts = assigned >= 0, (assigned >= 0) | (assigned == BACKGROUND)
            values = F.binary_cross_entropy_with_logits(logits[image], is_object.float(), reduction="none")
            classification += (values * counts).sum()
            truth = encode(anchors, targets[image].boxes[assigned.clamp(min=0)], (1, 1, 1, 1))
            values = F.smooth_l1_loss(differences[image], truth, reduction="none", beta=beta).sum(1)
            regression += (values * is_object).sum()
            count += counts.sum()
            assert is_object.sum() > 0
        torch.testing.assert_close(losses["loss_rpn_cls"], classification / count)
        torch.testing.assert_close(losses["loss_rpn_bbox"], regression / count)


def test_an_image_without_objects_is_all_background_and_all_parameters_get_a_gradient():
    images, shapes, targets = made_batch()
    head, maps = head_and_maps()
    losses = head.losses(head(maps), shapes, [without_objects(own) for own in targets], tuple(images.shape[2:]))
    assert losses["loss_rpn_bbox"] == 0
    assert losses["loss_rpn_cls"] > 0
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert head.rpn_cls.weight.grad.abs().sum() > 0


def test_the_sampler_limits_the_anchors():
    _, shapes, targets = made_batch()
    head, maps = head_and_maps(RULE._replace(sample=SampleRule(8, 0.5)))
    output = head(maps)
    torch.manual_seed(1)
    first = head.losses(output, shapes, targets, (72, 104))
    other = head.losses(output, shapes, targets, (72, 104))
    torch.manual_seed(1)
    again = head.losses(output, shapes, targets, (72, 104))
    assert first == again
    assert first["loss_rpn_cls"] != other["loss_rpn_cls"]


def test_proposals_have_no_gradient_and_lie_inside_their_images():
    _, shapes, _ = made_batch()
    head, maps = head_and_maps()
    for training, most in ((True, 20), (False, 10)):
        head.train(training)
        found = head.scored_proposals(head(maps), shapes)
        for (boxes, scores), shape in zip(found, shapes, strict=True):
            assert 1 < len(boxes) <= most
            assert not boxes.requires_grad
            assert (boxes.amin(0) >= 0).all()
            assert (boxes[:, 2:].amax(0) <= torch.tensor(shape.size).flip(0)).all()
            assert (scores.diff() <= 0).all()
        assert torch.equal(head.proposals(head(maps), shapes)[1], found[1][0])


def test_the_best_proposal_is_the_best_anchor_decoded():
    _, shapes, _ = made_batch()
    head, maps = head_and_maps()
    output = head.eval()(maps)
    scores = torch.cat(flatten_maps(output.scores, 1), 1)[..., 0]
    differences = torch.cat(flatten_maps(output.differences, 4), 1)
    anchors = torch.cat(pyramid_anchors(maps, STRIDES, RULE.anchors))
    for image, (boxes, own_scores) in enumerate(head.scored_proposals(output, shapes)):
        candidates = decode(anchors, differences[image], (1, 1, 1, 1))
        height, width = shapes[image].size
        candidates = candidates.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        has_area = (candidates[:, 2:] > candidates[:, :2]).all(1)
        best = torch.where(has_area, scores[image], -torch.inf).argmax()
        torch.testing.assert_close(boxes[0], candidates[best])
        torch.testing.assert_close(own_scores[0], scores[image][best].sigmoid())
        # Overlaps of one level are limited; those of two levels are not.
        assert pairwise_iou(boxes, boxes).fill_diagonal_(0).max() < 1
