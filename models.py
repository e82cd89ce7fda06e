"""Every model of the suite by its name: build it, list it, load weights into it.

>>> model = create_model("glore_resnet50_3d", num_classes=400)
>>> print(load_weights(model, "resnet50-lite_3d_8x8_w-glore_2-3_ep-0000.pth"))  # doctest: +SKIP
390 entries loaded
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import nn

import backbones
import eurgraph
import glore3d
import weights
from settings import did_you_mean
from weights import LoadReport, WeightsError

__all__ = ["AUTHORS_NAMES", "MODELS", "LoadReport", "Model", "WeightsError", "create_model", "list_models",
           "load_pretrained", "load_weights"]  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What the suite knows of a model. Numbers are those of the default options."""

    build: Callable[..., nn.Module]
    paper: str
    num_parameters: int
    input_shape: tuple[int, ...]
    """One input, without the batch: [3, T, H, W] for a clip. Others are accepted as the model's class says."""
    protocol: str
    """Where the paper's numbers come from, and what they are."""


GLORE = "Graph-Based Global Reasoning Networks, CVPR 2019, arXiv 1811.12814"
KINETICS = "Kinetics-400, 8 frames of stride 8, one centre clip and crop"
CLIP = (3, 8, 224, 224)
SMALL_CLIP = (3, 8, 64, 64)
IMAGENET = "ImageNet-1k, one centre crop"
IMAGENET_22K = "no number; weights for ImageNet-22k"
TOKENS = f"{IMAGENET}, token labels"
EAT = "Analogous to Evolutionary Algorithm: Designing a Unified Sequence Model, NeurIPS 2021, arXiv 2105.15089"
HORNET = (
    "HorNet: Efficient High-Order Spatial Interactions with Recursive Gated Convolutions, NeurIPS 2022, "
    "arXiv 2207.14284"
)
GLNET = "Revisiting the Integration of Convolution and Attention for Vision Backbone, NeurIPS 2024, arXiv 2411.14429"
EURNET = "EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, arXiv 2211.12941"
IMAGE = (3, 224, 224)
IMAGE_384 = (3, 384, 384)
SMALL_IMAGE = (3, 64, 64)

MODELS = {
    "glore_resnet50_3d": Model(glore3d.glore_resnet50_3d, GLORE, 33_731_952, CLIP, f"{KINETICS}: top-1 68.0 %"),
    "glore_resnet101_3d": Model(glore3d.glore_resnet101_3d, GLORE, 57_442_672, CLIP, f"{KINETICS}: top-1 69.2 %"),
    "resnet50_3d": Model(glore3d.resnet50_3d, GLORE, 27_985_264, CLIP, f"{KINETICS}: the baseline"),
    "resnet101_3d": Model(glore3d.resnet101_3d, GLORE, 51_695_984, CLIP, f"{KINETICS}: the baseline"),
    "glore_resnet_debug_3d": Model(glore3d.glore_resnet_debug_3d, GLORE, 320_416, SMALL_CLIP, "for tests and laptops"),
    "resnet_debug_3d": Model(glore3d.resnet_debug_3d, GLORE, 287_840, SMALL_CLIP, "for tests and laptops"),
    "eurnet_tiny": Model(eurgraph.eurnet_tiny, EURNET, 29_496_491, IMAGE, f"{IMAGENET}: top-1 82.3 %"),
    "eurnet_small": Model(eurgraph.eurnet_small, EURNET, 50_877_311, IMAGE, f"{IMAGENET}: top-1 83.6 %"),
    "eurnet_base": Model(eurgraph.eurnet_base, EURNET, 89_328_639, IMAGE, f"{IMAGENET}: top-1 84.0 %"),
    "eurnet_base_384": Model(eurgraph.eurnet_base_384, EURNET, 95_112_334, IMAGE_384, "to fine-tune at 384"),
    "eurnet_debug": Model(eurgraph.eurnet_debug, EURNET, 451_922, SMALL_IMAGE, "for tests and laptops"),
    "eurnet_tiny_video": Model(eurgraph.eurnet_tiny_video, EURNET, 29_490_539, CLIP, "ours for clips, no number"),
    "eurnet_small_video": Model(eurgraph.eurnet_small_video, EURNET, 50_944_343, CLIP, "ours for clips, no number"),
    "eurnet_base_video": Model(eurgraph.eurnet_base_video, EURNET, 89_586_647, CLIP, "ours for clips, no number"),
    "eurnet_debug_video": Model(eurgraph.eurnet_debug_video, EURNET, 380_642, SMALL_CLIP, "for tests and laptops"),
    "hornet_tiny_7x7": Model(backbones.hornet_tiny_7x7, HORNET, 22_409_512, IMAGE, f"{IMAGENET}: top-1 82.8 %"),
    "hornet_tiny_gf": Model(backbones.hornet_tiny_gf, HORNET, 22_991_848, IMAGE, f"{IMAGENET}: top-1 83.0 %"),
    "hornet_small_7x7": Model(backbones.hornet_small_7x7, HORNET, 49_528_264, IMAGE, f"{IMAGENET}: top-1 83.8 %"),
    "hornet_small_gf": Model(backbones.hornet_small_gf, HORNET, 50_401_768, IMAGE, f"{IMAGENET}: top-1 84.0 %"),
    "hornet_base_7x7": Model(backbones.hornet_base_7x7, HORNET, 87_256_680, IMAGE, f"{IMAGENET}: top-1 84.2 %"),
    "hornet_base_gf": Model(backbones.hornet_base_gf, HORNET, 88_421_352, IMAGE, f"{IMAGENET}: top-1 84.3 %"),
    "hornet_base_gf_img384": Model(backbones.hornet_base_gf_img384, HORNET, 92_099_560, IMAGE_384, "no number"),
    "hornet_large_7x7": Model(backbones.hornet_large_7x7, HORNET, 194_542_504, IMAGE, IMAGENET_22K),
    "hornet_large_gf": Model(backbones.hornet_large_gf, HORNET, 196_289_512, IMAGE, IMAGENET_22K),
    "hornet_large_gf_img384": Model(backbones.hornet_large_gf_img384, HORNET, 201_806_824, IMAGE_384, IMAGENET_22K),
    "hornet_debug_7x7": Model(backbones.hornet_debug_7x7, HORNET, 508_152, SMALL_IMAGE, "for tests and laptops"),
    "hornet_debug_gf": Model(backbones.hornet_debug_gf, HORNET, 491_772, SMALL_IMAGE, "for tests and laptops"),
    "glnet_4g": Model(backbones.glnet_4g, GLNET, 27_001_593, IMAGE, f"{IMAGENET}: top-1 83.7 %"),
    "glnet_9g": Model(backbones.glnet_9g, GLNET, 60_010_617, IMAGE, f"{IMAGENET}: top-1 84.5 %"),
    "glnet_16g": Model(backbones.glnet_16g, GLNET, 106_055_161, IMAGE, f"{IMAGENET}: top-1 85.0 %"),
    "glnet_4g_tklb": Model(backbones.glnet_4g_tklb, GLNET, 27_514_593, IMAGE, f"{TOKENS}: top-1 84.4 %"),
    "glnet_9g_tklb": Model(backbones.glnet_9g_tklb, GLNET, 60_779_617, IMAGE, f"{TOKENS}: top-1 85.3 %"),
    "glnet_stl": Model(backbones.glnet_stl, GLNET, 30_296_786, IMAGE, f"{IMAGENET}: top-1 82.5 %"),
    "glnet_stl_paramslot": Model(backbones.glnet_stl_paramslot, GLNET, 30_481_106, IMAGE, f"{IMAGENET}: top-1 82.1 %"),
    "glnet_debug": Model(backbones.glnet_debug, GLNET, 1_766_251, SMALL_IMAGE, "for tests and laptops"),
    "glnet_debug_tklb": Model(backbones.glnet_debug_tklb, GLNET, 2_023_251, SMALL_IMAGE, "for tests and laptops"),
    "eat_tiny": Model(backbones.eat_tiny, EAT, 5_719_912, IMAGE, f"{IMAGENET}: top-1 72.9 %"),
    "eat_small": Model(backbones.eat_small, EAT, 22_055_656, IMAGE, f"{IMAGENET}: top-1 80.4 %"),
    "eat_medium": Model(backbones.eat_medium, EAT, 49_008_232, IMAGE, f"{IMAGENET}: top-1 82.1 %"),
    "eat_base": Model(backbones.eat_base, EAT, 86_577_640, IMAGE, f"{IMAGENET}: top-1 82.0 %"),
    "eat_tiny_384": Model(backbones.eat_tiny_384, EAT, 5_792_872, IMAGE_384, f"{IMAGENET}: top-1 75.8 %"),
    "eat_small_384": Model(backbones.eat_small_384, EAT, 22_201_576, IMAGE_384, f"{IMAGENET}: top-1 82.4 %"),
    "eat_base_384": Model(backbones.eat_base_384, EAT, 86_869_480, IMAGE_384, "no number published"),
    "eat_tiny_dist": Model(backbones.eat_tiny_dist, EAT, 5_913_104, IMAGE, f"{IMAGENET}, distilled: top-1 74.8 %"),
    "eat_small_dist": Model(backbones.eat_small_dist, EAT, 22_441_040, IMAGE, f"{IMAGENET}, distilled: top-1 81.2 %"),
    "eat_debug": Model(backbones.eat_debug, EAT, 298_536, SMALL_IMAGE, "for tests and laptops"),
}

AUTHORS_NAMES = {
    "eat_progress3_patch16_224": "eat_tiny",
    "eat_progress6_patch16_224": "eat_small",
    "eat_progress9_patch16_224": "eat_medium",
    "eat_progress12_patch16_224": "eat_base",
    "eat_tiny_patch16_224": "eat_tiny",
    "eat_small_patch16_224": "eat_small",
    "eat_base_patch16_224": "eat_base",
    "eat_progress3_patch16_384": "eat_tiny_384",
    "eat_progress6_patch16_384": "eat_small_384",
    "eat_progress12_patch16_384": "eat_base_384",
    "eat_progress3_patch16_224_dist": "eat_tiny_dist",
    "eat_progress6_patch16_224_dist": "eat_small_dist",
}
"""What models are called in their authors' code: `create_model` takes these names too."""


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, sorted: `list_models("glore_*")`."""
    return sorted(name for name in MODELS if fnmatch(name, pattern))


def takes_images(name: str) -> bool:
    """Whether a model of `create_model` is for images [B, 3, H, W]; the others are for clips [B, 3, T, H, W]."""
    name = AUTHORS_NAMES.get(name, name)
    return name in MODELS and len(MODELS[name].input_shape) == 3


def create_model(name: str, num_classes: int | None = None, **options: Any) -> nn.Module:
    """Builds a model with fresh weights.

    Args:
        name: one of `list_models()`, or of the authors' own names for them (`AUTHORS_NAMES`).
        num_classes: classes told apart. None: as many as in the paper (400 for Kinetics, 1000 for ImageNet).
        options: what the model's builder takes besides, such as `dropout=0.5`.

    Raises:
        ValueError: unknown name or option; the message has the nearest and all the right ones.
    """
    name = AUTHORS_NAMES.get(name, name)
    if name not in MODELS:
        raise ValueError(_unknown("model", name, list_models()))
    build = MODELS[name].build
    accepted = list(inspect.signature(build).parameters)
    for option in options:
        if option not in accepted:
            raise ValueError(_unknown(f"option of {name}", option, accepted))
    if num_classes is not None:
        options["num_classes"] = num_classes
    model = build(**options)
    model.model_name = name
    return model


def _unknown(what: str, name: str, choices: list[str]) -> str:
    return f"no {what} is called {name!r}{did_you_mean(name, choices, cutoff=0.4)} (choices: {', '.join(choices)})"


def load_weights(model: nn.Module, path: str | Path, strict: bool = True, average: bool = False) -> LoadReport:
    """Fills a model from a file of its own weights: ours, or the authors' released one.

    The file is a state dict by itself or under `state_dict`, `model` or `model_ema`, written by torch.save or as
    safetensors, with or without the prefix `module.`. No code of the file is ever run.

    Args:
        model: the model to fill, in place; untouched if the file is refused.
        path: the file.
        strict: refuse a file of which anything does not fit. Otherwise what fits by name and shape is loaded, and the
            report says what is not.
        average: of a file that holds weights and their moving average (`model_ema`), take the average.

    Raises:
        WeightsError: the file is missing or broken, or does not fit.
    """
    return weights.load(model, path, strict, average, suggest=_other_that_fits)


def load_pretrained(model: nn.Module, path: str | Path) -> LoadReport:
    """Starts a model from what another data set taught it: fine-tuning, or a 3-D network from a 2-D ImageNet one.

    The file is read as by `load_weights`. Its classifier is used if it has the model's number of classes and left out
    otherwise. If the file holds 2-D kernels, they are inflated, and the model's reasoning units, which no image network
    has, stay as they are. Where a network's weights depend on the size of its images, they are resized. Everything else
    must fit.

    Raises:
        WeightsError: the file is missing or broken, or something else than the classifier does not fit.
    """
    return weights.load_into_another(model, path, suggest=_other_that_fits)


def _other_that_fits(name: str, found: weights.Weights) -> str | None:
    """Another model that the weights are of; of all models, eight are tried, for building one takes some tenths of a
    second, and only classifier and statistics can make a file differ from the right one in size."""
    size = sum(tensor.numel() for tensor in found.values() if tensor.is_floating_point())
    nearest = sorted(MODELS, key=lambda other: abs(MODELS[other].num_parameters - size))[:8]
    return next((other for other in nearest if other != name and _fits(MODELS[other], found)), None)


def _fits(candidate: Model, found: weights.Weights) -> bool:
    """Whether the weights are those of this model, with any number of classes."""
    with torch.device("meta"):
        model = candidate.build()
    try:
        adapted = weights.adapt(model, "", found)
    except WeightsError:
        return False
    return not weights.compare(model, adapted).excusing(weights.classifiers(model)).misfits()
