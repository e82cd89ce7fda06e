"""Every model of the suite by its name: build it, list it, load weights into it.

>>> model = create_model("glore_resnet50_3d", num_classes=400)
>>> print(load_weights(model, "resnet50-lite_3d_8x8_w-glore_2-3_ep-0000.pth"))  # doctest: +SKIP
390 entries loaded
"""

import argparse
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

import backbones
import eurgraph
import glore3d


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
    nearest = get_close_matches(name, choices, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ";"
    return f"there is no {what} called {name!r}{hint} Choices: {', '.join(choices)}"


class WeightsError(ValueError):
    """A file of weights is missing, broken, or does not fit the model; the message says which, why, and what to try."""


@dataclass
class LoadReport:
    """What became of every entry of a file of weights and of the model's state dict."""

    loaded: list[str] = field(default_factory=list)
    """Entries of the model that were filled from the file."""
    inflated: list[str] = field(default_factory=list)
    """Those of the loaded that were 2-D kernels and got a time axis of more than one frame."""
    missing: list[str] = field(default_factory=list)
    """Entries of the model that the file lacks; they keep the values they had."""
    unexpected: list[str] = field(default_factory=list)
    """Entries of the file that the model lacks."""
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    """(name, shape in the file, shape in the model); they keep the values they had."""

    def __str__(self) -> str:
        inflated = f", {len(self.inflated)} of them 2-D kernels that were inflated" if self.inflated else ""
        return "\n".join([f"{len(self.loaded)} entries loaded{inflated}", *self.misfits()])

    def misfits(self) -> list[str]:
        """A line for each kind of misfit there is, with the first few entries."""
        shapes = [f"{name} {list(file)} in the file, {list(own)} in the model" for name, file, own in self.mismatched]
        kinds = {"not in the file": self.missing, "not in the model": self.unexpected, "of another shape": shapes}
        lines = []
        for kind, entries in kinds.items():
            more = f" and {len(entries) - 4} more" if len(entries) > 4 else ""
            lines += [f"{len(entries)} {kind}: {', '.join(entries[:4])}{more}"] if entries else []
        return lines

    def excusing(self, prefixes: tuple[str, ...]) -> "LoadReport":
        """The same without the misfits whose names start so."""
        return LoadReport(
            loaded=self.loaded,
            inflated=self.inflated,
            missing=[name for name in self.missing if not name.startswith(prefixes)],
            unexpected=[name for name in self.unexpected if not name.startswith(prefixes)],
            mismatched=[entry for entry in self.mismatched if not entry[0].startswith(prefixes)],
        )


def load_weights(model: nn.Module, path: str | Path, strict: bool = True) -> LoadReport:
    """Fills a model from a file of its own weights: ours, or the authors' released one.

    The file is a state dict by itself or under `state_dict`, `model` or `model_ema`, written by torch.save or as
    safetensors, with or without the prefix `module.`. No code of the file is ever run.

    Args:
        model: the model to fill, in place; untouched if the file is refused.
        path: the file.
        strict: refuse a file of which anything does not fit. Otherwise what fits by name and shape is loaded, and the
            report says what is not.

    Raises:
        WeightsError: the file is missing or broken, or does not fit.
    """
    weights = _adapt(model, path, _read_weights(path))
    report = _compare(model, weights)
    if not report.loaded or (strict and report.misfits()):
        raise WeightsError(_misfit(model, path, weights, report))
    return _fill(model, weights, report)


def load_pretrained(model: nn.Module, path: str | Path) -> LoadReport:
    """Starts a model from what another data set taught it: fine-tuning, or a 3-D network from a 2-D ImageNet one.

    The file is read as by `load_weights`. Its classifier is used if it has the model's number of classes and left out
    otherwise. If the file holds 2-D kernels, they are inflated, and the model's reasoning units, which no image network
    has, stay as they are. Where a network's weights depend on the size of its images, they are resized. Everything else
    must fit.

    Raises:
        WeightsError: the file is missing or broken, or something else than the classifier does not fit.
    """
    weights = _adapt(model, path, _read_weights(path), resize=True)
    weights, inflated = glore3d.inflate_weights(weights, _shapes(model))
    report = _compare(model, weights)
    report.inflated = inflated
    units = [f"{name}." for name in getattr(model, "unit_names", ())] if inflated else []
    unexcused = report.excusing((*_classifiers(model), *units))
    if not report.loaded or unexcused.misfits():
        raise WeightsError(_misfit(model, path, weights, unexcused))
    return _fill(model, weights, report)


def _read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The state dict in a file, on the CPU, whatever it is wrapped in."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file of weights")
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle raises whatever its bytes happen to mean
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        size = f"{path.stat().st_size:,} bytes"
        raise WeightsError(
            f"{path}: not a readable file of weights, {size} ({type(error).__name__}: {reason}). "
            "It may be cut short, or hold more than tensors and plain values, which is refused: download it again, or "
            "save its state dict alone"
        ) from error
    for key in ("state_dict", "model", "model_ema"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = content.values() if isinstance(content, Mapping) else ()
    if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise WeightsError(
            f"{path}: holds no state dict, neither by itself nor under state_dict, model or model_ema, "
            f"but {_summary(content)}"
        )
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    return dict(content)


def _summary(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"the keys {', '.join(map(str, list(content)[:8]))}" if content else "nothing"
    return f"one {type(content).__name__}"


def _adapt(model: nn.Module, path: str | Path, weights: dict[str, torch.Tensor], resize: bool = False) -> dict:
    """The weights in the model's own form, where its class knows others (`adapt_weights`)."""
    if not hasattr(model, "adapt_weights"):
        return weights
    try:
        return model.adapt_weights(weights, resize=resize)
    except ValueError as error:
        raise WeightsError(f"{path}: does not fit {_name(model)}: {error}") from error


def _name(model: nn.Module) -> str:
    return getattr(model, "model_name", type(model).__name__)


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    """How the names of the classifier's entries start."""
    return getattr(model, "classifier_names", ("classifier.",))


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _compare(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> LoadReport:
    shapes = _shapes(model)
    report = LoadReport(unexpected=[name for name in weights if name not in shapes])
    for name, shape in shapes.items():
        if name not in weights:
            # Files from before PyTorch 0.4.1 do not count batches, and no result depends on the count.
            if not name.endswith(".num_batches_tracked"):
                report.missing.append(name)
        elif weights[name].shape != shape:
            report.mismatched.append((name, tuple(weights[name].shape), tuple(shape)))
        else:
            report.loaded.append(name)
    return report


def _fill(model: nn.Module, weights: Mapping[str, torch.Tensor], report: LoadReport) -> LoadReport:
    model.load_state_dict({name: weights[name] for name in report.loaded}, strict=False)
    return report


def _misfit(model: nn.Module, path: str | Path, weights: Mapping[str, torch.Tensor], report: LoadReport) -> str:
    """What to tell a person whose file does not fit, with what to try next."""
    name, classifiers = _name(model), _classifiers(model)
    classes = [theirs[0] for entry, theirs, _ in report.mismatched if entry.startswith(classifiers)]
    if classes and not report.excusing(classifiers).misfits():
        hint = f"num_classes={classes[0]}, which the file was made for, or load_pretrained to fine-tune from it"
    elif other := _other_that_fits(name, weights):
        hint = f"{other}, which the file fits"
    elif not _compare(model, _adapt(model, path, weights, resize=True)).excusing(classifiers).misfits():
        hint = "load_pretrained, which resizes what depends on the size of the images"
    elif any(theirs == (*ours[:2], *ours[3:]) for _, theirs, ours in report.mismatched if len(ours) == 5):
        hint = "load_pretrained, which inflates the 2-D kernels of an image network"
    else:
        hint = "the model that the file was saved from; list_models() has the names"
    fitting = f"{len(report.loaded)} of the model's {len(_shapes(model))} entries fit"
    return "\n".join([f"{path}: does not fit {name}: {fitting}", *report.misfits(), f"Try: {hint}."])


def _other_that_fits(name: str, weights: Mapping[str, torch.Tensor]) -> str | None:
    """Another model that the weights are of; of all models, eight are tried, for building one takes some tenths of a
    second, and only classifier and statistics can make a file differ from the right one in size."""
    size = sum(tensor.numel() for tensor in weights.values() if tensor.is_floating_point())
    nearest = sorted(MODELS, key=lambda other: abs(MODELS[other].num_parameters - size))[:8]
    return next((other for other in nearest if other != name and _fits(MODELS[other], weights)), None)


def _fits(candidate: Model, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether the weights are those of this model, with any number of classes."""
    with torch.device("meta"):
        model = candidate.build()
    try:
        weights = _adapt(model, "", weights)
    except WeightsError:
        return False
    return not _compare(model, weights).excusing(_classifiers(model)).misfits()
