"""The segmentor around its parts, windows that slide, and its loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dense.fcn import FCNHead
from dense.segmentation_loss import pixel_loss, segmentation_losses
from dense.segmentor import SegmentationLogits, Segmentor, slide
from dense.upernet import UPerHead


class Pyramid(nn.Module):
    """Average pooling to strides 4 and 8 in place of a backbone."""

    pyramid_channels, pyramid_strides = (3, 3), (4, 8)

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [F.avg_pool2d(x, stride, ceil_mode=True) for stride in self.pyramid_strides]


def segmentor(**options) -> Segmentor:
    torch.manual_seed(0)
    channels = Pyramid.pyramid_channels
    return Segmentor(Pyramid(), UPerHead(channels, 4, channels=8), FCNHead(channels, 4, channels=8), **options)


def test_training_gives_the_logits_of_both_heads_and_evaluation_those_of_every_pixel():
    model, images = segmentor(), torch.randn(2, 3, 33, 50)
    outputs = model(images)
    assert outputs.decode.shape == outputs.auxiliary.shape == (2, 4, 9, 13)
    with torch.no_grad():
        assert model.eval()(images).shape == (2, 4, 33, 50)
    assert model.classifier_names == ("decode_head.conv_seg.", "auxiliary_head.conv_seg.")
    alone = Segmentor(Pyramid(), UPerHead((3, 3), 4, channels=8))
    assert alone(images).auxiliary is None and alone.classifier_names == ("decode_head.conv_seg.",)


def test_a_neck_lies_under_both_heads():
    class Negated(nn.Module):
        def forward(self, levels):
            return [-level for level in levels]

    model = segmentor(neck=Negated()).eval()
    images = torch.randn(1, 3, 32, 32)
    plain = segmentor().eval()
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(-images))


@pytest.mark.parametrize(("size", "crop", "stride"), [((40, 60), (16, 16), (10, 12)), ((13, 40), (16, 16), (16, 5))])
def test_sliding_averages_the_windows_that_see_a_pixel(size, crop, stride):
    images = torch.arange(2 * 3 * size[0] * size[1], dtype=torch.float64).view(2, 3, *size)
    calls = []

    def model(part: torch.Tensor) -> torch.Tensor:
        calls.append(part.shape)
        return part[:, :2] + len(calls)  # each window adds its own number

    found = slide(model, images, crop, stride)
    total, count, number = torch.zeros(2, 2, *size, dtype=torch.float64), torch.zeros(size), 0
    tops = sorted({*range(0, max(size[0] - crop[0], 0), stride[0]), max(size[0] - crop[0], 0)})
    lefts = sorted({*range(0, max(size[1] - crop[1], 0), stride[1]), max(size[1] - crop[1], 0)})
    for top in tops:
        for left in lefts:
            number += 1
            place = (..., slice(top, top + crop[0]), slice(left, left + crop[1]))
            total[place] += number
            count[place] += 1
    torch.testing.assert_close(found, images[:, :2] + total / count)
    assert count.min() >= 1 and all(shape[2] == min(crop[0], size[0]) for shape in calls)


def test_one_window_over_the_whole_image_is_the_network_itself():
    model, images = segmentor().eval(), torch.randn(1, 3, 30, 44)
    with torch.no_grad():
        assert torch.equal(slide(model, images, (64, 64), (43, 43)), model(images))


def test_the_loss_is_a_mean_over_all_pixels_or_over_those_with_a_label():
    logits, labels = torch.randn(2, 4, 8, 9), torch.randint(0, 4, (2, 8, 9))
    labels[:, :3] = 255
    with_label = labels != 255
    total = F.cross_entropy(logits.movedim(1, -1)[with_label], labels[with_label], reduction="sum")
    torch.testing.assert_close(pixel_loss(logits, labels), total / labels.numel())
    torch.testing.assert_close(pixel_loss(logits, labels, over_all=False), total / with_label.sum())
    nothing = pixel_loss(logits.requires_grad_(), torch.full_like(labels, 255), over_all=False)
    nothing.backward()
    assert nothing == 0 and not logits.grad.any()


def test_losses_of_the_heads_are_weighted():
    decode, auxiliary, labels = torch.randn(1, 4, 4, 4), torch.randn(1, 4, 2, 2), torch.randint(0, 4, (1, 16, 16))
    losses = segmentation_losses(SegmentationLogits(decode, auxiliary), labels, auxiliary_weight=0.3)
    torch.testing.assert_close(losses["auxiliary"], 0.3 * pixel_loss(auxiliary, labels))
    assert set(losses) == {"decode", "auxiliary"}
    assert set(segmentation_losses(SegmentationLogits(decode, None), labels)) == {"decode"}


def test_half_precision_logits_give_a_float32_loss():
    logits = torch.full((1, 4, 64, 64), 60000.0, dtype=torch.float16)
    assert pixel_loss(logits, torch.zeros(1, 64, 64, dtype=torch.long)).dtype == torch.float32
    assert pixel_loss(logits, torch.zeros(1, 64, 64, dtype=torch.long)).isfinite()
