"""Every model of the suite by its name: build it, list it, load weights into it.

>>> model = create_model("glore_resnet50_3d", num_classes=400)
>>> print(load_weights(model, "resnet50-lite_3d_8x8_w-glore_2-3_ep-0000.pth"))  # doctest: +SKIP
390 entries loaded

Importing this file imports no network and not even torch, which takes seconds: they are imported where they are used.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import operator
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libraries
import weight_reader
import weights as weight_files
from libraries import HUB, TIMM, is_library_name
from model_protocol import LayerDecay, Model, Pyramid
from weight_reader import WeightsError
from weights import LoadReport

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

__all__ = ["AUTHORS_NAMES", "BACKBONES", "CLIP_MODELS", "GRAPH_MODELS", "IMAGE_MODELS", "MODELS",
           "RELEASED_FILES", "TIMM", "LayerDecay", "LoadReport", "Model", "ModelInfo", "Pyramid", "WeightsError",
           "create_model", "create_pyramid", "list_models", "load_pretrained", "load_weights", "model_info",
           "takes_images"]  # fmt: skip


@dataclass(frozen=True)
class ModelInfo:
    """What the suite knows about a model, for its default options."""

    module: str
    """Where its builder is, a function of the model's name."""
    paper: str
    num_parameters: int
    input_shape: tuple[int, ...]
    """One input, without the batch: [3, H, W] for an image, [3, T, H, W] for a clip."""
    protocol: str
    """The paper's evaluation protocol and score."""


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
EURNET_BASE = f"{IMAGENET}: top-1 84.0 % (with TorchDrug 84.1 %), 85.7 % after ImageNet-22k"
EURNET_BASE_384 = "ImageNet-1k, the whole image: top-1 85.3 %, 87.0 % after ImageNet-22k"
DPN = "Dual Path Networks, NIPS 2017, arXiv 1707.01629"
IMAGE = (3, 224, 224)
IMAGE_384 = (3, 384, 384)
SMALL_IMAGE = (3, 64, 64)

IMAGE_MODELS = {
    "eurnet_tiny": ModelInfo("eurgraph.eurnet", EURNET, 29_496_491, IMAGE, f"{IMAGENET}: top-1 82.3 %"),
    "eurnet_small": ModelInfo("eurgraph.eurnet", EURNET, 50_877_311, IMAGE, f"{IMAGENET}: top-1 83.6 %"),
    "eurnet_base": ModelInfo("eurgraph.eurnet", EURNET, 89_328_639, IMAGE, EURNET_BASE),
    "eurnet_base_384": ModelInfo("eurgraph.eurnet", EURNET, 95_112_334, IMAGE_384, EURNET_BASE_384),
    "eurnet_debug": ModelInfo("eurgraph.eurnet", EURNET, 451_922, SMALL_IMAGE, "for tests and laptops"),
    "hornet_tiny_7x7": ModelInfo("backbones.hornet", HORNET, 22_409_512, IMAGE, f"{IMAGENET}: top-1 82.8 %"),
    "hornet_tiny_gf": ModelInfo("backbones.hornet", HORNET, 22_991_848, IMAGE, f"{IMAGENET}: top-1 83.0 %"),
    "hornet_small_7x7": ModelInfo("backbones.hornet", HORNET, 49_528_264, IMAGE, f"{IMAGENET}: top-1 83.8 %"),
    "hornet_small_gf": ModelInfo("backbones.hornet", HORNET, 50_401_768, IMAGE, f"{IMAGENET}: top-1 84.0 %"),
    "hornet_base_7x7": ModelInfo("backbones.hornet", HORNET, 87_256_680, IMAGE, f"{IMAGENET}: top-1 84.2 %"),
    "hornet_base_gf": ModelInfo("backbones.hornet", HORNET, 88_421_352, IMAGE, f"{IMAGENET}: top-1 84.3 %"),
    "hornet_base_gf_img384": ModelInfo("backbones.hornet", HORNET, 92_099_560, IMAGE_384, "no number"),
    "hornet_large_7x7": ModelInfo("backbones.hornet", HORNET, 194_542_504, IMAGE, IMAGENET_22K),
    "hornet_large_gf": ModelInfo("backbones.hornet", HORNET, 196_289_512, IMAGE, IMAGENET_22K),
    "hornet_large_gf_img384": ModelInfo("backbones.hornet", HORNET, 201_806_824, IMAGE_384, IMAGENET_22K),
    "hornet_debug_7x7": ModelInfo("backbones.hornet", HORNET, 508_152, SMALL_IMAGE, "for tests and laptops"),
    "hornet_debug_gf": ModelInfo("backbones.hornet", HORNET, 491_772, SMALL_IMAGE, "for tests and laptops"),
    "glnet_4g": ModelInfo("backbones.glnet", GLNET, 27_001_593, IMAGE, f"{IMAGENET}: top-1 83.7 %"),
    "glnet_9g": ModelInfo("backbones.glnet", GLNET, 60_010_617, IMAGE, f"{IMAGENET}: top-1 84.5 %"),
    "glnet_16g": ModelInfo("backbones.glnet", GLNET, 106_055_161, IMAGE, f"{IMAGENET}: top-1 85.0 %"),
    "glnet_4g_tklb": ModelInfo("backbones.glnet", GLNET, 27_514_593, IMAGE, f"{TOKENS}: top-1 84.4 %"),
    "glnet_9g_tklb": ModelInfo("backbones.glnet", GLNET, 60_779_617, IMAGE, f"{TOKENS}: top-1 85.3 %"),
    "glnet_stl": ModelInfo("backbones.glnet", GLNET, 30_296_786, IMAGE, f"{IMAGENET}: top-1 82.5 %"),
    "glnet_stl_paramslot": ModelInfo("backbones.glnet", GLNET, 30_481_106, IMAGE, f"{IMAGENET}: top-1 82.1 %"),
    "glnet_debug": ModelInfo("backbones.glnet", GLNET, 1_766_251, SMALL_IMAGE, "for tests and laptops"),
    "glnet_debug_tklb": ModelInfo("backbones.glnet", GLNET, 2_023_251, SMALL_IMAGE, "for tests and laptops"),
    "eat_tiny": ModelInfo("backbones.eat", EAT, 5_719_912, IMAGE, f"{IMAGENET}: top-1 72.9 %"),
    "eat_small": ModelInfo("backbones.eat", EAT, 22_055_656, IMAGE, f"{IMAGENET}: top-1 80.4 %"),
    "eat_medium": ModelInfo("backbones.eat", EAT, 49_008_232, IMAGE, f"{IMAGENET}: top-1 82.1 %"),
    "eat_base": ModelInfo("backbones.eat", EAT, 86_577_640, IMAGE, f"{IMAGENET}: top-1 82.0 %"),
    "eat_tiny_384": ModelInfo("backbones.eat", EAT, 5_792_872, IMAGE_384, f"{IMAGENET}: top-1 75.8 %"),
    "eat_small_384": ModelInfo("backbones.eat", EAT, 22_201_576, IMAGE_384, f"{IMAGENET}: top-1 82.4 %"),
    "eat_base_384": ModelInfo("backbones.eat", EAT, 86_869_480, IMAGE_384, "no number published"),
    "eat_tiny_dist": ModelInfo("backbones.eat", EAT, 5_913_104, IMAGE, f"{IMAGENET}, distilled: top-1 74.8 %"),
    "eat_small_dist": ModelInfo("backbones.eat", EAT, 22_441_040, IMAGE, f"{IMAGENET}, distilled: top-1 81.2 %"),
    "eat_debug": ModelInfo("backbones.eat", EAT, 298_536, SMALL_IMAGE, "for tests and laptops"),
    "glore_resnet50": ModelInfo("glore3d.resnet2d", GLORE, 31_314_216, IMAGE, f"{IMAGENET}: top-1 78.2 %"),
    "glore_resnet101": ModelInfo("glore3d.resnet2d", GLORE, 50_306_344, IMAGE, "no number published"),
    "glore_resnet200": ModelInfo("glore3d.resnet2d", GLORE, 70_431_016, IMAGE, f"{IMAGENET}: top-1 79.7 %"),
    "glore_se_resnet50": ModelInfo("glore3d.resnet2d", GLORE, 33_019_352, IMAGE, f"{IMAGENET}: top-1 78.7 %"),
    "glore_resnext101_32x4d": ModelInfo("glore3d.resnet2d", GLORE, 49_934_888, IMAGE, f"{IMAGENET}: top-1 79.8 %"),
    "glore_dpn98": ModelInfo("glore3d.dual_path", GLORE, 69_021_096, IMAGE, f"{IMAGENET}: top-1 80.2 %"),
    "glore_dpn131": ModelInfo("glore3d.dual_path", GLORE, 87_300_968, IMAGE, f"{IMAGENET}: top-1 80.3 %"),
    "preact_resnet50": ModelInfo("glore3d.resnet2d", GLORE, 25_553_192, IMAGE, f"{IMAGENET}: top-1 76.2 %"),
    "preact_resnet101": ModelInfo("glore3d.resnet2d", GLORE, 44_545_320, IMAGE, "no number published"),
    "preact_resnet200": ModelInfo("glore3d.resnet2d", GLORE, 64_669_992, IMAGE, "no number published"),
    "preact_se_resnet50": ModelInfo("glore3d.resnet2d", GLORE, 28_084_184, IMAGE, f"{IMAGENET}: top-1 77.2 %"),
    "preact_resnext101_32x4d": ModelInfo("glore3d.resnet2d", GLORE, 44_173_864, IMAGE, "no number published"),
    "dpn98": ModelInfo("glore3d.dual_path", DPN, 61_570_728, IMAGE, f"{IMAGENET}: top-1 79.85 %"),
    "dpn131": ModelInfo("glore3d.dual_path", DPN, 79_254_504, IMAGE, f"{IMAGENET}: top-1 80.07 %"),
    "glore_resnet_small": ModelInfo("glore3d.resnet2d", GLORE, 1_238_536, (3, 32, 32), "ours for small images"),
    "glore_resnet_debug": ModelInfo("glore3d.resnet2d", GLORE, 440_888, SMALL_IMAGE, "for tests and laptops"),
    "preact_resnet_debug": ModelInfo("glore3d.resnet2d", GLORE, 407_640, SMALL_IMAGE, "for tests and laptops"),
    "glore_dpn_debug": ModelInfo("glore3d.dual_path", GLORE, 255_424, SMALL_IMAGE, "for tests and laptops"),
}
"""Networks for images [B, 3, H, W]."""

CLIP_MODELS = {
    "glore_resnet50_3d": ModelInfo("glore3d.resnet3d", GLORE, 33_731_952, CLIP, f"{KINETICS}: top-1 68.0 %"),
    "glore_resnet101_3d": ModelInfo("glore3d.resnet3d", GLORE, 57_442_672, CLIP, f"{KINETICS}: top-1 69.2 %"),
    "resnet50_3d": ModelInfo("glore3d.resnet3d", GLORE, 27_985_264, CLIP, f"{KINETICS}: the baseline"),
    "resnet101_3d": ModelInfo("glore3d.resnet3d", GLORE, 51_695_984, CLIP, f"{KINETICS}: the baseline"),
    "glore_resnet_debug_3d": ModelInfo("glore3d.resnet3d", GLORE, 320_416, SMALL_CLIP, "for tests and laptops"),
    "resnet_debug_3d": ModelInfo("glore3d.resnet3d", GLORE, 287_840, SMALL_CLIP, "for tests and laptops"),
    "eurnet_tiny_video": ModelInfo("eurgraph.eurnet", EURNET, 29_490_539, CLIP, "ours for clips, no number"),
    "eurnet_small_video": ModelInfo("eurgraph.eurnet", EURNET, 50_944_343, CLIP, "ours for clips, no number"),
    "eurnet_base_video": ModelInfo("eurgraph.eurnet", EURNET, 89_586_647, CLIP, "ours for clips, no number"),
    "eurnet_debug_video": ModelInfo("eurgraph.eurnet", EURNET, 380_642, SMALL_CLIP, "for tests and laptops"),
}
"""Networks for clips [B, 3, T, H, W]."""

MODELS = ChainMap(CLIP_MODELS, IMAGE_MODELS)

GRAPH_MODELS = {"eurnet_kg": "eurgraph.reasoning", "nbfnet": "eurgraph.nbfnet",
                "eurnet_protein": "eurgraph.protein", "gearnet": "eurgraph.protein",
                "eurnet_skeleton": "eurgraph.skeleton", "stgcn": "eurgraph.stgcn"}  # fmt: skip
"""Networks for graphs, and where their builders are. Their inputs and outputs differ from network to network:
`create_model` builds them, but they have no classifier and no pyramid."""

BACKBONES = ("dilated_resnet50", "dilated_resnet101")
"""Networks for images that are backbones only: `create_pyramid` builds them, `create_model` does not."""

_EURNETS = {name for name, info in MODELS.items() if info.module == "eurgraph.eurnet"}
PYRAMIDS = (
    {name: f"{info.module}_pyramid" for name, info in MODELS.items()}
    | dict.fromkeys(_EURNETS & IMAGE_MODELS.keys(), "eurgraph.pyramid")
    | dict.fromkeys(_EURNETS & CLIP_MODELS.keys(), "eurgraph.video_pyramid")
    | dict.fromkeys(BACKBONES, "glore3d.dilated_resnet")
)
"""Where the builder of a model's backbone for dense prediction is, a function of the model's name."""

NUM_LEVELS = 4
"""Number of levels in each model's whole pyramid."""
TIME = ("keep", "mean")

AUTHORS_NAMES = {"eat_progress3_patch16_224": "eat_tiny", "eat_progress6_patch16_224": "eat_small",
                 "eat_progress9_patch16_224": "eat_medium", "eat_progress12_patch16_224": "eat_base",
                 "eat_tiny_patch16_224": "eat_tiny", "eat_small_patch16_224": "eat_small",
                 "eat_base_patch16_224": "eat_base", "eat_progress3_patch16_384": "eat_tiny_384",
                 "eat_progress6_patch16_384": "eat_small_384", "eat_progress12_patch16_384": "eat_base_384",
                 "eat_progress3_patch16_224_dist": "eat_tiny_dist", "eat_progress6_patch16_224_dist": "eat_small_dist",
                 "RESNET50_3D_GCN_X5": "glore_resnet50_3d", "resnet50_3d_gcn_x5": "glore_resnet50_3d",
                 "RESNET101_3D_GCN_X5": "glore_resnet101_3d", "resnet101_3d_gcn_x5": "glore_resnet101_3d"}  # fmt: skip
"""Names of models in their authors' code, which `create_model` takes too."""

RELEASED_FILES = {
    "glore_resnet50_3d": ("resnet50-lite_3d_8x8_w-glore_2-3_ep-0000.pth",),
    "glore_resnet101_3d": ("resnet101-lite_3d_8x8_w-glore_2-3_ep-0000.pth",),
    "glore_resnet50": ("resnet50_w-glore_2-3.tar", "resnet50_w-glore_0-3.tar"),
    "glore_resnet200": ("resnet200_w-glore_2-3.tar", "resnet200_w-glore_0-3.tar"),
    "glore_se_resnet50": ("resnet50_w-se_w-glore_0-3.tar",),
    "glore_resnext101_32x4d": ("resnext101-32x4d_w-glore_2-3.tar",),
    "glore_dpn98": ("dpn98_w-glore_2-3.tar",), "glore_dpn131": ("dpn131_w-glore_2-3.tar",),
    "preact_resnet50": ("resnet50.tar",), "preact_se_resnet50": ("resnet50_w-se.tar",),
    "eurnet_tiny": ("pyg_eurnet_tiny_1k_300eps_last_epoch.pth", "td_eurnet_tiny_1k_300eps_last_epoch.pth",
                    "td_eurnet_tiny_1k_pretrain.pth"),
    "eurnet_small": ("pyg_eurnet_small_1k_300eps_last_epoch.pth", "td_eurnet_small_1k_300eps_last_epoch.pth",
                     "td_eurnet_small_1k_pretrain.pth"),
    "eurnet_base": ("pyg_eurnet_base_1k_300eps_last_epoch.pth", "td_eurnet_base_1k_300eps_last_epoch.pth",
                    "td_eurnet_base_22kto1k_30eps_finetune_224_last_epoch.pth", "td_eurnet_base_1k_pretrain.pth",
                    "td_eurnet_base_22k_pretrain.pth"),
    "eurnet_base_384": ("td_eurnet_base_1k_30eps_finetune_224to384_last_epoch.pth",
                        "td_eurnet_base_22kto1k_30eps_finetune_384_last_epoch.pth"),
    "hornet_large_7x7": ("hornet_large_7x7_in22k.pth",), "hornet_large_gf": ("hornet_large_gf_in22k.pth",),
    **{name: (f"{name}.pth",) for name in IMAGE_MODELS if name.startswith("glnet_") and "debug" not in name},
    "eat_tiny": ("EAT-Ti.pth", "EAT-Ti-1000e.pth"), "eat_small": ("EAT-S.pth",), "eat_medium": ("EAT-M.pth",),
    "eat_base": ("EAT-B.pth",), "eat_tiny_384": ("EAT-Ti-384.pth",), "eat_small_384": ("EAT-S-384.pth",),
    "eat_tiny_dist": ("EAT-Ti-dist.pth", "EAT-Ti-dist-1000e.pth"), "eat_small_dist": ("EAT-S-dist.pth",),
}  # fmt: skip
"""Names of the weight files that the authors offer for a model, in their pages and code; .tar archives are of MXNet."""


def list_models(pattern: str = "*") -> list[str]:
    """Names of networks for images and clips that match a shell pattern, sorted: `list_models("glore_*")`.

    Those of other libraries are listed if the pattern begins with the library: `list_models("timm/convnext*")`.
    """
    if is_library_name(pattern):
        return libraries.list_names(pattern)
    return sorted(name for name in MODELS if fnmatch(name, pattern))


def takes_images(name: str) -> bool:
    """Whether a model (ours or a library's) is for images [B, 3, H, W]; the others are for clips [B, 3, T, H, W]."""
    if is_library_name(name):
        return libraries.takes_images(name)
    return name in BACKBONES or AUTHORS_NAMES.get(name, name) in IMAGE_MODELS


def model_info(name: str) -> ModelInfo:
    """What is known about a model, including timm's and torchvision's. Raises ValueError if there is no such model."""
    name = AUTHORS_NAMES.get(name, name)
    if not is_library_name(name):
        if name not in MODELS:
            raise ValueError(_unknown("model", name, list_models()))
        return MODELS[name]
    import torch

    with torch.device("meta"):
        num_parameters = sum(parameter.numel() for parameter in create_model(name).parameters())
    module, known = libraries.module_of(name), libraries.describe_input(name)
    return ModelInfo(module.__name__, module.CITATION, num_parameters, known.shape, "see the library")


def builder(name: str) -> Callable[..., nn.Module]:
    """The function that builds the model of this name. Imports the model's file.

    Raises:
        ValueError: there is no such model; the message has the nearest name and all of them.
    """
    if name not in MODELS and name not in GRAPH_MODELS:
        raise ValueError(_unknown("model", name, [*list_models(), *GRAPH_MODELS]) + f"; {libraries.HINT}")
    module = GRAPH_MODELS[name] if name in GRAPH_MODELS else MODELS[name].module
    return getattr(importlib.import_module(module), name)


def create_model(name: str, num_classes: int | None = None, **options: Any) -> nn.Module:
    """Builds a model with fresh weights: a `Model`.

    Args:
        name: one of `list_models()`, or of the authors' own names for them (`AUTHORS_NAMES`), or of `GRAPH_MODELS`; or
            `timm/NAME` or `torchvision/NAME` for any of their classifiers.
        num_classes: number of classes. None: as many as in the paper (400 for Kinetics, 1000 for ImageNet).
            0: no classifier; the model returns its pooled features. Networks for graphs have options instead.
        options: further arguments of the model's builder, such as `dropout=0.5`.

    Raises:
        ValueError: unknown name or option; the message has the nearest name and all of them. Or an option without a
            default is missing.
    """
    name = AUTHORS_NAMES.get(name, name)
    num_classes = None if num_classes is None else _whole(num_classes)
    if is_library_name(name):
        model = libraries.create(name, num_classes, options)
    else:
        build = builder(name)
        given = options if num_classes is None else {"num_classes": num_classes} | options
        _check_options(name, build, given)
        model = build(**given)
    model.model_name, model.model_options = name, options
    return model


_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _check_options(name: str, build: Callable[..., nn.Module], options: Mapping[str, Any]) -> None:
    accepted = inspect.signature(build).parameters
    for option in options:
        if option not in accepted:
            raise ValueError(_unknown(f"option of {name}", option, list(accepted)))
    required = [one for one, rule in accepted.items() if rule.default is rule.empty and rule.kind not in _COLLECTING]
    missing = [one for one in required if one not in options]
    if missing:
        raise ValueError(f"{name} has no default size: give {', '.join(missing)}")


def _whole(num_classes: Any) -> int:
    try:
        num_classes = operator.index(num_classes)
    except TypeError:
        raise ValueError(f"num_classes is {num_classes!r}; it must be a whole number") from None
    if num_classes < 0:
        raise ValueError(f"num_classes must be 0 or more, not {num_classes}")
    return num_classes


def create_pyramid(
    name: str,
    out_indices: Sequence[int] | None = None,
    weights: str | Path | None = None,
    *,
    time: str | None = None,
    **options: Any,
) -> nn.Module:
    """Builds the backbone of a segmentor or detector, a `Pyramid`: the stages of a model up to the last level.

    Levels have the norms that the model's authors give them in dense prediction. `backbones.PerFrame` applies a
    backbone for images to clips.

    >>> backbone = create_pyramid("hornet_debug_gf", out_indices=(1, 2, 3))
    >>> backbone.pyramid_channels, backbone.pyramid_strides
    ((32, 64, 128), (8, 16, 32))

    Args:
        name: as for `create_model`, or `timm/NAME` for any network of timm that has `features_only`.
        out_indices: the levels that it returns, from 0 (the finest) to 3, increasing; for a network of timm, as timm
            counts them. None: all of stride 4 or more.
        weights: a file to start from, read by `load_pretrained`: of the classifier, of the backbone, or of a detector
            or segmentor with it. Logs what happened to its entries.
        time: what to do with the time axis of clips. `keep`: levels are [B, C, T, H, W]; `mean`: it is averaged, so
            that heads for images take the levels. None: kept.
        options: further arguments of the backbone's builder.

    Raises:
        ValueError: unknown name, option or level.
        WeightsError: the file is missing or broken, or does not fit.
    """
    name = AUTHORS_NAMES.get(name, name)
    if is_library_name(name) and not name.startswith(TIMM):
        raise ValueError(
            f"{name} is for classification; backbones for dense prediction are ours and timm's: {TIMM}NAME"
        )
    if time is not None and takes_images(name):
        raise ValueError(f"{name} is for images, which have no time; leave out time={time!r}")
    if time not in (None, *TIME):
        raise ValueError(f"time must be one of {', '.join(TIME)}, not {time!r}")
    if name.startswith(TIMM):
        from backbones.timm_pyramid import TimmPyramid  # imports timm, which takes seconds

        model = TimmPyramid(name.removeprefix(TIMM), out_indices, **options)
    else:
        model = _own_pyramid(name, out_indices, options)
    model.model_name, model.model_options = name, options
    if weights is not None:
        log.info("%s: %s", weights, load_pretrained(model, weights))
    if time == "mean":
        from backbones.time_averaged import TimeAveraged

        model = TimeAveraged(model)
        model.model_name, model.model_options = name, options
    return model


def _own_pyramid(name: str, out_indices: Sequence[int] | None, options: Mapping[str, Any]) -> nn.Module:
    if name in MODELS and name not in PYRAMIDS:
        raise ValueError(f"{name} has no backbone for dense prediction: add its builder to models.PYRAMIDS")
    if name not in PYRAMIDS:
        raise ValueError(_unknown("model", name, sorted(PYRAMIDS)) + f"; networks of timm are called {TIMM}NAME")
    build = getattr(importlib.import_module(PYRAMIDS[name]), name)
    _check_options(name, build, options)
    if out_indices is None:
        return build(**options)
    if not out_indices or list(out_indices) != sorted(set(out_indices) & set(range(NUM_LEVELS))):
        raise ValueError(
            f"out_indices of {name} are levels from 0 (the finest) to {NUM_LEVELS - 1}, increasing, not "
            f"{tuple(out_indices)}"
        )
    return build(out_indices=tuple(out_indices), **options)


def _unknown(what: str, name: str, choices: list[str]) -> str:
    from settings import unknown_name  # with pydantic, which takes longer to import than all the rest here

    return unknown_name(what, name, choices)


def load_weights(model: nn.Module, path: str | Path, strict: bool = True, average: bool = False) -> LoadReport:
    """Fills a model from a file of its own weights: ours, or the authors' released one.

    The file is a state dict by itself or under `state_dict`, `model`, `module`, `model_state_dict`, `model_ema`,
    `state_dict_ema` or `ema`, written by torch.save or as safetensors. Names may have the prefixes of wrappers:
    `module.`, `model.`, `net.` or `network.` before all of them, `_orig_mod.` of torch.compile anywhere. Code in the
    file never runs.

    Args:
        model: the model to fill, in place; untouched if the file is refused.
        path: the file, or a folder that `inference.save_pretrained` wrote.
        strict: refuse the file unless every entry fits. Otherwise whatever fits by name and shape is loaded, and the
            report names the rest.
        average: take the moving average of the weights (`model_ema`, `state_dict_ema` or `ema`) instead of the weights.

    Raises:
        WeightsError: the file is missing or broken, or does not fit.
    """
    return weight_files.load(model, path, strict, average, suggest=_other_that_fits)


def load_pretrained(
    model: nn.Module, path: str | Path, classes: Sequence[int] | None = None, average: bool = False
) -> LoadReport:
    """Starts a model from weights learned on other data: fine-tuning, or a 3-D network from 2-D ImageNet weights.

    The file is read as by `load_weights`; "hub" as path downloads the weights that timm or torchvision offers for its
    network. The file's classifier is used if it has the model's number of classes and left out otherwise, unless
    `classes` selects the rows to start from. 2-D kernels in the file are inflated, and the model's reasoning units,
    which no image network has, stay unchanged. Weights that depend on the image size are resized. The rest must fit.

    Args:
        model: the model to fill, in place; untouched if the file is refused.
        path: the file or folder, or "hub".
        classes: for each class of the model, its class in the file, such as those of ImageNet-1k in 22k.
        average: as for `load_weights`.

    Raises:
        WeightsError: the file is missing or broken, it or `classes` do not fit, or nothing can be downloaded.
    """
    found = libraries.download_weights(model) if path == HUB else weight_reader.read(path, average)
    return weight_files.load_into_another(model, path, found, suggest=_other_that_fits, classes=classes)


def _other_that_fits(name: str, found: weight_files.Weights) -> str | None:
    """Another model that the weights fit, from the eight nearest in size.

    Building one takes some tenths of a second, and a file differs in size from its model only by classifier and
    statistics.
    """
    size = sum(tensor.numel() for tensor in found.values() if tensor.is_floating_point())
    nearest = sorted(MODELS, key=lambda other: abs(MODELS[other].num_parameters - size))[:8]
    return next((other for other in nearest if other != name and _fits(other, found)), None)


def _fits(name: str, found: weight_files.Weights) -> bool:
    """Whether the weights are those of this model, with any number of classes."""
    import torch

    with torch.device("meta"):
        model = builder(name)()
    try:
        adapted = weight_files.adapt(model, "", found)
    except WeightsError:
        return False
    return not weight_files.compare(model, adapted).excusing(weight_files.classifiers(model)).misfits()
