"""Mask R-CNN: ours, which is that of the papers' runs, compared with torchvision's, on one backbone."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from detectors import create_detector
from tools.benchmarks.timing import Contestant, add_timing_arguments, measure
from tools.common.arguments import positive

HELP = """Mask R-CNN on a ResNet-50 with FPN: inference of an image, from pixels to boxes and mask probabilities.

"ours" is the detector of `create_detector("timm/resnet50")`, "torchvision" is maskrcnn_resnet50_fpn. They are nearly
the same network with the same limits (1000 proposals, 40 detections, which all reach); docs/dense.md lists the
differences. torchvision's RoIAlign takes two samples per cell in each direction, ours one per position that the cell
spans, as in the papers' runs; "torchvision, all samples" is torchvision's network with as many. Weights are random, and
one class is made likely, so that there are detections to predict masks for.
"""

KINDS = ("torchvision, all samples", "torchvision", "ours")
NUM_DETECTIONS = 40
LIKELY = 4.0
"""Added to the logit of a class, which then has a probability of about .4."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--height", type=positive, default=800, help="height of the image")
    parser.add_argument("--width", type=positive, default=1344, help="its width")
    add_timing_arguments(parser, num_repeats=3)


def run(args: argparse.Namespace) -> None:
    print(f"Mask R-CNN, ResNet-50, 1 x {args.height} x {args.width}, {args.threads} thread(s), float32")
    print(f"{'':26}{'s/image':>12}{'peak MiB':>12}{'faster':>12}")
    contestants = [Contestant(kind, partial(_step, kind, args.height, args.width), args.threads) for kind in KINDS]
    results = measure(contestants, args.repeats, "inference")
    for contestant, result in zip(contestants, results, strict=True):
        ratio = result.times_faster_than(results[0])
        print(f"{contestant.name:26}{result.median:12.2f}{result.mebibytes:>12}{ratio:11.2f}x", flush=True)


def _step(kind: str, height: int, width: int) -> Callable[[], Any]:
    model, images = build(kind, height, width), torch.randn(1, 3, height, width)

    def step() -> None:
        with torch.inference_mode():
            model(images)

    return step


def build(kind: str, height: int, width: int) -> nn.Module:
    """The detector of this kind, for images of this size."""
    torch.manual_seed(0)
    if kind == "ours":
        model = create_detector("timm/resnet50", num_classes=80, head_options={"max_detections": NUM_DETECTIONS})
        nn.init.constant_(model.roi_head.bbox_head.fc_cls.bias[0], LIKELY)
        return model.eval()
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    options = {"min_size": min(height, width), "max_size": max(height, width)}
    options["box_detections_per_img"] = NUM_DETECTIONS
    model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=81, **options)
    nn.init.constant_(model.roi_heads.box_predictor.cls_score.bias[1], LIKELY)
    if kind == KINDS[0]:
        model.roi_heads.box_roi_pool.sampling_ratio = model.roi_heads.mask_roi_pool.sampling_ratio = 0
    return model.eval()
