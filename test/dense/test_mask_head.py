"""The head for masks: targets cut from whole masks, and the loss at the true class alone."""

import pytest
import torch
import torch.nn.functional as F
from detection_scenes import rectangles
from torchvision.ops import roi_align

from dense.mask_head import MaskHead, crop_masks, masks_of
from dense.regions import RegionSample
from dense.structures import Targets


def test_masks_are_cut_where_they_cover_half_of_a_cell():
    mask = torch.zeros(2, 40, 40, dtype=torch.uint8)
    mask[1, 10:20, 12:30] = 1
    cropped = crop_masks(mask, torch.tensor([[10.0, 8, 38, 36]]), torch.tensor([1]), 28)  # a cell for each pixel
    assert torch.equal(cropped[0], mask[1, 8:36, 10:38].bool())
    for shift, pixels in ((0.4, 0), (0.6, 1)):  # the cell takes the pixel that covers most of it
        box = torch.tensor([[10 + shift, 8, 38 + shift, 36]])
        shifted = crop_masks(mask, box, torch.tensor([1]), 28)
        assert torch.equal(shifted[0], mask[1, 8:36, 10 + pixels : 38 + pixels].bool())
    assert not crop_masks(mask, torch.tensor([[10.0, 8, 38, 36]]), torch.tensor([0]), 28).any()


def test_cutting_from_all_masks_is_cutting_from_a_copy_for_each_region():
    torch.manual_seed(0)
    masks = (torch.rand(3, 50, 60) < 0.5).to(torch.uint8)
    boxes = torch.tensor([[3.2, 4.1, 33.3, 41.9], [20.5, 7.0, 59.0, 50.0], [0.0, 0.0, 12.2, 13.1]])
    index = torch.tensor([2, 0, 2])
    copies = masks[index][:, None].float()
    regions = torch.cat((torch.arange(3.0)[:, None], boxes), dim=1)
    expected = roi_align(copies, regions, 28, 1.0, 0, aligned=True)[:, 0] >= 0.5
    assert torch.equal(crop_masks(masks, boxes, index, 28), expected)


def test_the_loss_is_at_the_true_class():
    _, first = rectangles([[8, 10, 50, 40], [60, 20, 100, 70]], [0, 2], (72, 104))
    _, second = rectangles([[20, 8, 80, 56]], [1], (64, 90))
    none = torch.zeros(2, dtype=torch.bool)
    samples = [
        RegionSample(torch.rand(5, 4) * 30 + first.boxes[[1, 0, 0, 0, 0]], torch.tensor([2, 0, 3, 3, 3]),
                     torch.tensor([1, 0]), none),
        RegionSample(second.boxes, torch.tensor([1]), torch.tensor([0]), none[:1]),
    ]  # fmt: skip
    logits = torch.randn(3, 3, 28, 28)
    loss = MaskHead(4, 3).loss(logits, samples, [first, second])
    truth = torch.cat([
        crop_masks(own.masks, sample.positive, sample.objects, 28)
        for own, sample in zip((first, second), samples, strict=True)
    ])  # fmt: skip
    chosen = torch.stack([logits[0, 2], logits[1, 0], logits[2, 1]])
    assert torch.equal(masks_of(logits, torch.tensor([2, 0, 1])), chosen)
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(chosen, truth.float()))


def test_layers_and_their_names():
    head = MaskHead(8, 3, num_convs=2)
    names = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    assert names == {
        **{f"convs.{i}.conv.weight": (8, 8, 3, 3) for i in range(2)},
        **{f"convs.{i}.conv.bias": (8,) for i in range(2)},
        "upsample.weight": (8, 8, 2, 2),
        "upsample.bias": (8,),
        "conv_logits.weight": (3, 8, 1, 1),
        "conv_logits.bias": (3,),
    }
    assert head(torch.randn(5, 8, 14, 14)).shape == (5, 3, 28, 28)
    head.reset_classifier(4)
    assert head(torch.randn(0, 8, 14, 14)).shape == (0, 4, 28, 28)


def test_no_regions_and_no_masks():
    head = MaskHead(8, 3)
    head.no_loss().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    target = Targets(torch.rand(1, 4), torch.tensor([0]))
    _, other = rectangles([[20, 8, 80, 56]], [1], (64, 90))
    none = RegionSample(torch.rand(2, 4), torch.tensor([3, 3]), torch.zeros(0).long(), torch.zeros(0).bool())
    one = RegionSample(other.boxes, torch.tensor([1]), torch.tensor([0]), torch.tensor([True]))
    without = Targets(target.boxes[:0], target.labels[:0])  # nothing in it, so no masks are missing
    assert head.loss(torch.zeros(1, 3, 28, 28), [none, one], [without, other]).isfinite()
    with pytest.raises(ValueError, match="but the targets have none; head='faster_rcnn' does without"):
        head.loss(torch.zeros(1, 3, 28, 28), [], [target])
