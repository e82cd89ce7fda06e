"""The cascade: what goes from stage to stage, and what each contributes."""

import torch
from detection_scenes import gradients, second_stage_inputs, without_objects

from dense.box_coder import decode
from dense.boxes import clip_boxes
from dense.cascade import CascadeHead, refined_samples
from dense.mask_head import masks_of
from dense.proposals import DetectionRule
from dense.regions import sample_regions
from dense.roi_head import CASCADE_STAGES, RoIRule, RoISizes
from dense.roi_pooling import pool_regions, with_batch_index
from dense.sample import SampleRule

RULE = RoIRule(CASCADE_STAGES, SampleRule(16, 0.25), DetectionRule(0.0, 1.0, 10))
SIZES = RoISizes(box_convs=1, box_fcs=1, fc_channels=16, box_norm="batch", mask_convs=1)


def made_head(rule: RoIRule = RULE, sizes: RoISizes = SIZES) -> CascadeHead:
    torch.manual_seed(0)
    head = CascadeHead(8, 3, (8, 16), rule, sizes)
    for own in head.bbox_head:
        own.fc_cls.weight.data *= 100
        own.fc_reg.weight.data *= 1000
    return head


def test_all_parameters_learn_and_every_stage_has_its_losses():
    head = made_head()
    losses = head.losses(*second_stage_inputs())
    assert list(losses) == [f"s{i}.loss_{name}" for i in range(3) for name in ("cls", "bbox", "mask")]
    assert all(value.dim() == 0 and value > 0 for value in losses.values())
    assert all(gradient.abs().sum() > 0 for gradient in gradients(head, losses).values())


def test_all_parameters_get_a_gradient_without_objects_and_without_regions():
    head = made_head()
    maps, proposals, shapes, targets = second_stage_inputs()
    targets = [without_objects(target) for target in targets]
    losses = head.losses(maps, proposals, shapes, targets)
    assert all((value > 0) == name.endswith("cls") for name, value in losses.items())
    assert all(gradient is not None for gradient in gradients(head, losses).values())
    losses = head.losses(maps, [own[:0] for own in proposals], shapes, targets)
    assert all(value == 0 for value in losses.values())
    assert all(gradient is not None and not gradient.any() for gradient in gradients(head, losses).values())


def test_sampled_regions_move_without_the_objects_own_boxes():
    _, proposals, shapes, targets = second_stage_inputs()
    head, stage = made_head().bbox_head[1], CASCADE_STAGES[1]
    samples = [
        sample_regions(own, target, 3, stage.match, SampleRule(10**6, 1.0))
        for own, target in zip(proposals, targets, strict=True)
    ]
    number = sum(len(sample.labels) for sample in samples)
    logits, differences = torch.randn(number, 4), torch.randn(number, 12, requires_grad=True)
    refined = refined_samples(head, samples, logits, differences, shapes, stage)
    row = 0
    for found, sample, shape, target in zip(refined, samples, shapes, targets, strict=True):
        expected = []
        for place, (region, label) in enumerate(zip(sample.regions, sample.labels, strict=True)):
            kind = logits[row, :3].argmax() if label == 3 else label
            moved = decode(region, differences[row, 4 * kind : 4 * kind + 4], stage.stds)
            if place >= len(target.boxes):
                expected.append(clip_boxes(moved, shape.size))
            row += 1
        assert not found.requires_grad
        torch.testing.assert_close(found, torch.stack(expected))


def test_scores_are_of_the_mean_logits_and_boxes_of_the_last_stage():
    head = made_head().eval()
    maps, proposals, shapes, _ = second_stage_inputs()
    region = proposals[0][:1]
    with torch.inference_mode():
        (found,) = head.detect([x[:1] for x in maps], [region], shapes[:1])
        total, box = 0, region
        for stage, own in zip(CASCADE_STAGES, head.bbox_head, strict=True):
            logits, differences = own(pool_regions(maps, with_batch_index([box]), (8, 16), 7))
            total = total + logits
            moved = [decode(box, differences[:, 4 * k : 4 * k + 4], stage.stds) for k in range(3)]
            moved = [clip_boxes(each, shapes[0].size) for each in moved]
            box = moved[logits[0, :3].argmax()]
        scores = (total / 3).softmax(1)[0, :3]
        assert found.labels.tolist() == scores.argsort(descending=True).tolist()
        torch.testing.assert_close(found.scores, scores[found.labels])
        torch.testing.assert_close(found.boxes, torch.cat([moved[label] for label in found.labels]))
        pooled = pool_regions(maps, with_batch_index([found.boxes]), (8, 16), 14)
        mean = sum(masks_of(own(pooled), found.labels).sigmoid() for own in head.mask_head) / 3
        torch.testing.assert_close(found.masks, mean)


def test_images_without_proposals():
    head = made_head().eval()
    maps, proposals, shapes, _ = second_stage_inputs()
    for regions in ([own[:0] for own in proposals], [proposals[0][:0], proposals[1]]):
        found = head.detect(maps, regions, shapes)
        assert [len(own.boxes) for own in found] == [min(10, 10 * len(own)) for own in regions]


def test_classifiers_are_named_and_replaced():
    head = made_head()
    names = {name for name in head.state_dict() if name.startswith(head.classifier_names)}
    layers = [f"bbox_head.{i}.{name}" for i in range(3) for name in ("fc_cls", "fc_reg")]
    layers += [f"mask_head.{i}.conv_logits" for i in range(3)]
    assert names == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    before = head.state_dict()
    head.reset_classifier(5)
    changed = {name for name, tensor in head.state_dict().items() if tensor.shape != before[name].shape}
    assert changed == names
    assert not made_head(sizes=SIZES._replace(mask_convs=None)).mask_head
