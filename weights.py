"""Weights from files: compared with a model entry by entry, and loaded or refused.

The suite uses this through `models.load_weights` and `models.load_pretrained`, which add the names of its models.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import weight_reader
from weight_reader import COMPILED, WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

Weights = Mapping[str, "torch.Tensor"]
Suggest = Callable[[str, Weights], str | None]
"""(the model's name, weights that do not fit it) -> the name of another model that they fit, if there is one."""

_HOLDERS = ("module.", "model.", "net.", "network.")
"""Prefixes that wrappers of the network, such as DistributedDataParallel, put before the names of all entries."""

BACKBONE = "backbone."
"""Prefix of the backbone's entries in detectors and segmentors."""


@dataclass
class LoadReport:
    """What happened to every entry of a weight file and of the model's state dict."""

    loaded: list[str] = field(default_factory=list)
    """Entries of the model that were filled from the file."""
    inflated: list[str] = field(default_factory=list)
    """The entries in `loaded` that were 2-D kernels and got a time axis of more than one frame."""
    missing: list[str] = field(default_factory=list)
    """Entries of the model that the file lacks; they keep the values they had."""
    unexpected: list[str] = field(default_factory=list)
    """Entries of the file that the model lacks."""
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    """(name, shape in the file, shape in the model); they keep the values they had."""
    converted: list[str] = field(default_factory=list)
    """How entries in another form than the model's were converted: a line for each kind, written by the model."""

    def __str__(self) -> str:
        inflated = f", {len(self.inflated)} of them 2-D kernels that were inflated" if self.inflated else ""
        return "\n".join([f"{len(self.loaded)} entries loaded{inflated}", *self.converted, *self.misfits()])

    def misfits(self) -> list[str]:
        """A line for each kind of misfit, with the first few entries."""
        shapes = [f"{name} {list(file)} in the file, {list(own)} in the model" for name, file, own in self.mismatched]
        kinds = {"not in the file": self.missing, "not in the model": self.unexpected, "of another shape": shapes}
        lines = []
        for kind, entries in kinds.items():
            more = f" and {len(entries) - 4} more" if len(entries) > 4 else ""
            lines += [f"{len(entries)} {kind}: {', '.join(entries[:4])}{more}"] if entries else []
        return lines

    def excusing(self, prefixes: tuple[str, ...]) -> LoadReport:
        """The same report without the misfits whose names start with one of `prefixes`."""
        return LoadReport(
            loaded=self.loaded,
            inflated=self.inflated,
            missing=[name for name in self.missing if not name.startswith(prefixes)],
            unexpected=[name for name in self.unexpected if not name.startswith(prefixes)],
            mismatched=[entry for entry in self.mismatched if not entry[0].startswith(prefixes)],
            converted=self.converted,
        )


def load(model: nn.Module, path: str | Path, strict: bool, average: bool, suggest: Suggest) -> LoadReport:
    """See `models.load_weights`."""
    model = getattr(model, "_orig_mod", model)  # compiled
    weights = adapt(model, path, weight_reader.read(path, average))
    report = compare(model, weights)
    if not report.loaded or (strict and report.misfits()):
        raise WeightsError(_misfit(model, path, weights, report, suggest))
    return _fill(model, path, weights, report)


def load_into_another(
    model: nn.Module, path: str | Path, weights: Weights, suggest: Suggest, classes: Sequence[int] | None = None
) -> LoadReport:
    """See `models.load_pretrained`. `path` is where the `weights` come from."""
    from glore3d.inflate import inflate_weights

    model = getattr(model, "_orig_mod", model)  # compiled
    found = _backbone_alone(model, _without_shared_holders(model, dict(weights)))
    weights = adapt(model, path, found, resize=True)
    if classes is not None:
        if not any(name.startswith(classifiers(model)) for name in weights):  # EurNet leaves out the file's
            whole = adapt(model, path, found)
            weights |= {name: tensor for name, tensor in whole.items() if name.startswith(classifiers(model))}
        weights = _of_classes(model, path, weights, classes)
    weights, inflated = inflate_weights(weights, _shapes(model))
    report = compare(model, weights)
    report.inflated = inflated
    if hasattr(model, "conversion_notes"):
        report.converted = model.conversion_notes(found)
    units = [f"{name}." for name in getattr(model, "unit_names", ())] if inflated else []
    unexcused = report.excusing((*_excused(model, weights), *units))
    if not report.loaded or unexcused.misfits():
        raise WeightsError(_misfit(model, path, weights, unexcused, suggest))
    return _fill(model, path, weights, report)


def adapt(model: nn.Module, path: str | Path, weights: dict[str, torch.Tensor], resize: bool = False) -> dict:
    """The weights in the model's own form, if the model can convert others (`adapt_weights`)."""
    weights = _without_holder_of_some(model, _without_shared_holders(model, weights))
    if hasattr(model, "adapt_weights"):
        try:
            weights = model.adapt_weights(weights, resize=resize)
        except ValueError as error:
            raise WeightsError(f"{path}: does not fit {_name(model)}: {error}") from error
    own = {COMPILED.sub("", name): name for name in _shapes(model)}  # some of its layers may be compiled
    return {own.get(name, name): tensor for name, tensor in weights.items()}


def _without_shared_holders(model: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights without prefixes that their names share but the model's names lack, such as `module.`."""
    own = _shapes(model)
    twins = {f"ema_{name.replace('.', '_')}" for name in weights} - own.keys()  # of mmcv's moving average
    weights = {name: tensor for name, tensor in weights.items() if name not in twins}
    if "n_averaged" not in own:
        weights.pop("n_averaged", None)  # torch's AveragedModel counts its updates
    while weights:
        shared = [prefix for prefix in _HOLDERS if all(name.startswith(prefix) for name in weights)]
        if not shared or any(name.startswith(shared[0]) for name in own):
            break
        weights = {name.removeprefix(shared[0]): tensor for name, tensor in weights.items()}
    return weights


def _without_holder_of_some(model: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights without a prefix of only some of their names, if those are all that the model needs."""
    optional = classifiers(model)
    needed = [
        name for name in _shapes(model) if not name.startswith(optional) and not name.endswith(".num_batches_tracked")
    ]
    for prefix in (*_HOLDERS, BACKBONE):
        if needed and all(prefix + name in weights and name not in weights for name in needed):
            return {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def _backbone_alone(model: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The entries of a detector's or segmentor's backbone, if the model itself is a backbone."""
    inner = {name.removeprefix(BACKBONE): tensor for name, tensor in weights.items() if name.startswith(BACKBONE)}
    is_backbone = hasattr(model, "forward_pyramid") and not any(name.startswith(BACKBONE) for name in _shapes(model))
    return inner if inner and is_backbone else weights


def _name(model: nn.Module) -> str:
    return getattr(model, "model_name", type(model).__name__)


def classifiers(model: nn.Module) -> tuple[str, ...]:
    """The prefixes of the classifier's entries."""
    return getattr(model, "classifier_names", ("classifier.",))


def _of_classes(model: nn.Module, path: str | Path, weights: dict, classes: Sequence[int]) -> dict[str, torch.Tensor]:
    """The weights with the rows of their classifier for `classes`, one for each class of the model."""
    names = [name for name in weights if name.startswith(classifiers(model)) and _has_rows(model, name, weights[name])]
    try:
        classes = [operator.index(number) for number in classes]
    except TypeError as error:
        raise WeightsError(f"classes is {classes!r}; expected a whole number for each class of the model") from error
    if not classes:
        raise WeightsError("classes is empty; expected a whole number for each class of the model, or None")
    num_found = min((len(weights[name]) for name in names), default=0)
    if not num_found:
        raise WeightsError(f"{path}: has no classifier to select classes from")
    if not 0 <= min(classes) <= max(classes) < num_found:
        raise WeightsError(
            f"{path}: has {num_found} classes, but the selected ones range from {min(classes)} to {max(classes)}"
        )
    if len(classes) != model.num_classes:
        raise WeightsError(f"{path}: {len(classes)} classes are selected, but the model has {model.num_classes}")
    return weights | {name: weights[name][classes] for name in names}


def _has_rows(model: nn.Module, name: str, tensor: torch.Tensor) -> bool:
    """Whether an entry of the classifier has a row for each class; the entries of its norm, for example, do not."""
    own = _shapes(model).get(name, ())
    return len(own) > 0 and own[0] == model.num_classes and tensor.dim() == len(own) and tensor.shape[1:] == own[1:]


def _excused(model: nn.Module, weights: Weights) -> tuple[str, ...]:
    """Prefixes of entries that a file for fine-tuning may lack, or may have without the model using them.

    These are the classifier's; what a backbone has besides its classifier (`new_names`); and what a detector or
    segmentor has besides its backbone (`head_names`). A file that has some of the last two should have all.
    """
    excused = classifiers(model)
    for kind in ("new_names", "head_names"):
        new = tuple(getattr(model, kind, ()))
        if not any(name.startswith(new) for name in weights):
            excused += new
    return excused


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def compare(model: nn.Module, weights: Weights) -> LoadReport:
    shapes = _shapes(model)
    report = LoadReport(unexpected=[name for name in weights if name not in shapes])
    for name, shape in shapes.items():
        if name not in weights:
            # Files from before PyTorch 0.4.1 lack the count of batches, and no result depends on it.
            if not name.endswith(".num_batches_tracked"):
                report.missing.append(name)
        elif weights[name].shape != shape:
            report.mismatched.append((name, tuple(weights[name].shape), tuple(shape)))
        else:
            report.loaded.append(name)
    return report


def _fill(model: nn.Module, path: str | Path, weights: Weights, report: LoadReport) -> LoadReport:
    import torch

    own = model.state_dict()
    if unplaced := next((name for name in report.loaded if own[name].is_meta), None):
        raise WeightsError(
            f"{path}: {unplaced} of {_name(model)} is on the meta device, where weights have no memory; build the "
            'network outside torch.device("meta")'
        )
    for name in report.loaded:
        ours, theirs = own[name], weights[name]
        same_kind = ours.is_floating_point() == theirs.is_floating_point() and ours.is_complex() == theirs.is_complex()
        counts = not ours.is_floating_point() and not ours.is_complex()  # integers, which files may store as floats
        if theirs.is_meta or theirs.layout != torch.strided or not (same_kind or counts):
            found = "no values" if theirs.is_meta else f"values of {theirs.dtype}, {theirs.layout}"
            raise WeightsError(
                f"{path}: {name} has {found}, which cannot become {ours.dtype}; save the weights dense and not "
                "quantized"
            )
    fitting = OrderedDict((name, weights[name]) for name in report.loaded)
    fitting._metadata = own._metadata  # versions of modules, which torchvision's MNASNet insists on
    model.load_state_dict(fitting, strict=False)
    return report


def _misfit(model: nn.Module, path: str | Path, weights: Weights, report: LoadReport, suggest: Suggest) -> str:
    """The error for a file that does not fit, with what to try next."""
    name, excused = _name(model), _excused(model, weights)
    classes = [theirs[0] for entry, theirs, _ in report.mismatched if entry.startswith(excused)]
    only_classifier = not report.excusing(excused).misfits()
    has_classifier = getattr(model, "num_classes", 0) != 0
    if only_classifier and not has_classifier:
        hint = "load_pretrained, which leaves out the file's classifier"
    elif not has_classifier and _fits_resized(model, path, weights):
        hint = "load_pretrained, which converts weights of a classifier"
    elif only_classifier and classes:
        hint = f"num_classes={classes[0]}, which the file was made for, or load_pretrained to fine-tune from it"
    elif any(theirs == (*ours[:2], *ours[3:]) for _, theirs, ours in report.mismatched if len(ours) == 5):
        hint = "load_pretrained, which inflates the 2-D kernels of an image network"
    elif other := suggest(name, weights):
        hint = f"{other}, which the file fits"
    elif only_classifier:
        hint = "load_pretrained, which does not need a classifier in the file"
    elif _fits_resized(model, path, weights):
        hint = "load_pretrained, which resizes what depends on the size of the images"
    elif not report.missing and not report.mismatched:
        hint = "load_weights(..., strict=False), which leaves out entries that the model lacks, or a file without them"
    else:
        hint = "the model that the file was saved from; list_models() has the names"
    fitting = f"{len(report.loaded)} of the model's {len(_shapes(model))} entries fit"
    return "\n".join([f"{path}: does not fit {name}: {fitting}", *report.misfits(), f"Try: {hint}."])


def _fits_resized(model: nn.Module, path: str | Path, weights: Weights) -> bool:
    resized = adapt(model, path, dict(weights), resize=True)
    return not compare(model, resized).excusing(_excused(model, resized)).misfits()
