"""RetinaNet: losses as sums over all anchors, detections of all levels."""

import torch
import torch.nn.functional as F
from detection_scenes import gradients, made_batch, without_objects
from torch import nn

from dense.anchors import AnchorRule, flatten_maps, pyramid_anchors
from dense.assign import IGNORED, assign
from dense.box_coder import decode, encode
from dense.fpn import FPN
from dense.proposals import DetectionRule
from dense.retinanet import RetinaHead, RetinaNet, RetinaRule

STRIDES = (8, 16, 32)
RULE = RetinaRule(detection=DetectionRule(0.0, 1.0, 20), max_per_level=15)


def made_head(rule: RetinaRule = RULE) -> tuple[RetinaHead, list[torch.Tensor]]:
    torch.manual_seed(0)
    head = RetinaHead(16, 3, STRIDES, rule, num_convs=1)
    for parameter in head.parameters():
        parameter.data *= 10 if parameter.dim() > 1 else 1
    return head, [torch.randn(2, 16, 9 >> i, 13 >> i) for i in range(3)]


def test_anchors_are_three_sizes_of_each_shape():
    assert RULE.anchors.ratios == (0.5, 1.0, 2.0)
    assert [round(scale, 4) for scale in RULE.anchors.scales] == [4, 5.0397, 6.3496]


def test_losses_are_sums_over_anchors_for_each_positive_one():
    _, shapes, targets = made_batch()
    rule = RULE._replace(anchors=AnchorRule(RULE.anchors.scales, pad_multiple=None), beta=0.1)
    head, maps = made_head(rule)
    output = head(maps)
    losses = head.losses(output, shapes, targets, (72, 104))
    anchors = torch.cat(pyramid_anchors(maps, STRIDES, rule.anchors))
    logits = torch.cat(flatten_maps(output.logits, 3), 1)
    differences = torch.cat(flatten_maps(output.differences, 4), 1)
    classification = regression = count = 0
    for image, target in enumerate(targets):
        assigned = assign(anchors, target.boxes, rule.match)
        truth = F.one_hot(torch.where(assigned >= 0, target.labels[assigned.clamp(min=0)], 3), 4)[:, :3].float()
        p = logits[image].sigmoid()
        loss = -0.25 * truth * (1 - p) ** 2 * p.log() - 0.75 * (1 - truth) * p**2 * (1 - p).log()
        classification += loss[assigned != IGNORED].sum()
        positive = assigned >= 0
        distances = encode(anchors[positive], target.boxes[assigned[positive]], (1, 1, 1, 1))
        regression += F.smooth_l1_loss(differences[image][positive], distances, reduction="sum", beta=0.1)
        count += positive.sum()
        assert (assigned == IGNORED).any()
    torch.testing.assert_close(losses["loss_cls"], classification / count)
    torch.testing.assert_close(losses["loss_bbox"], regression / count)
    assert all(gradient.abs().sum() > 0 for gradient in gradients(head, losses).values())


def test_without_objects_all_parameters_get_a_gradient():
    _, shapes, targets = made_batch()
    head, maps = made_head()
    losses = head.losses(head(maps), shapes, [without_objects(target) for target in targets], (72, 104))
    assert losses["loss_bbox"] == 0
    assert losses["loss_cls"] > 0
    assert all(gradient is not None for gradient in gradients(head, losses).values())


def test_detections_are_the_best_pairs_of_box_and_class():
    _, shapes, _ = made_batch()
    head, maps = made_head()
    output = head.eval()(maps)
    anchors = pyramid_anchors(maps, STRIDES, RULE.anchors)
    for image, (found, shape) in enumerate(zip(head.detect(output, shapes), shapes, strict=True)):
        pairs = []
        for logits, differences, own in zip(
            flatten_maps(output.logits, 3), flatten_maps(output.differences, 4), anchors, strict=True
        ):
            scores = logits[image].sigmoid()
            for place in scores.flatten().argsort(descending=True)[:15].tolist():
                box = decode(own[place // 3], differences[image][place // 3], (1, 1, 1, 1)).clamp(min=0)
                box = box.minimum(torch.tensor(shape.size).flip(0).repeat(2)) / torch.tensor(shape.scale * 2)
                pairs.append((scores.flatten()[place], place % 3, box))
        pairs = sorted(pairs, key=lambda pair: -pair[0])[:20]
        torch.testing.assert_close(found.scores, torch.stack([score for score, _, _ in pairs]))
        assert found.labels.tolist() == [label for _, label, _ in pairs]
        torch.testing.assert_close(found.boxes, torch.stack([box for _, _, box in pairs]))
        assert found.masks is None


def test_nothing_is_found_below_the_threshold():
    _, shapes, _ = made_batch()
    head, maps = made_head(RULE._replace(detection=DetectionRule(0.9999)))
    assert [len(found.scores) for found in head.detect(head(maps), shapes)] == [0, 0]


def test_an_image_with_outputs_that_are_not_finite_is_marked():
    _, shapes, _ = made_batch()
    head, maps = made_head()
    for part in ("logits", "differences"):
        output = head(maps)
        getattr(output, part)[1].data[1] = torch.nan
        found = head.detect(output, shapes)
        assert [bool(own.is_finite) for own in found] == [True, False]
        assert all(field.isfinite().all() for own in found for field in own[:3])


def test_probabilities_start_low_and_a_new_classifier_leaves_the_boxes():
    head = RetinaHead(16, 3, STRIDES, RULE, num_convs=4)
    assert head([torch.zeros(1, 16, 2, 2)]).logits[0].sigmoid().allclose(torch.tensor(0.01))
    names = {
        f"{tower}_convs.{i}.conv.{kind}" for tower in ("cls", "reg") for i in range(4) for kind in ("weight", "bias")
    }
    outputs = {f"retina_{name}.{kind}" for name in ("cls", "reg") for kind in ("weight", "bias")}
    assert set(head.state_dict()) == names | outputs
    before = head.state_dict()
    head.reset_classifier(5)
    changed = {name for name, tensor in head.state_dict().items() if tensor.shape != before[name].shape}
    assert changed == {"retina_cls.weight", "retina_cls.bias"}


class Pyramid(nn.Module):
    """One convolution for each of the strides 8 and 16."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 8, stride, stride) for stride in (8, 16))

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [conv(x) for conv in self.convs]


def test_the_whole_detector_learns_and_detects():
    images, shapes, targets = made_batch()
    torch.manual_seed(0)
    model = RetinaNet(Pyramid(), FPN((8, 8), (8, 16), 16, 3, extra="conv"), RetinaHead(16, 3, STRIDES, RULE))
    losses = model(images, shapes, targets)
    assert list(losses) == ["loss_cls", "loss_bbox"]
    assert all(gradient is not None for gradient in gradients(model, losses).values())
    assert model.num_classes == 3
    assert model.classifier_names == ("bbox_head.retina_cls.",)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images, shapes, targets)
        found = model.eval()(images)
    assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())
    assert len(found) == 2
    assert all(own.boxes.isfinite().all() and own.boxes.dtype == torch.float32 for own in found)
