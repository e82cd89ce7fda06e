"""Files of weights: read without running their code, compared with a model entry by entry, and loaded or refused.

`models.load_weights` and `models.load_pretrained` are how the suite uses this; they add the names of its models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from settings import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

Weights = Mapping[str, "torch.Tensor"]
Suggest = Callable[[str, Weights], str | None]
"""(the model's name, weights that do not fit it) -> the name of another model that they fit, if there is one."""


class WeightsError(UserError, ValueError):
    """A file of weights is missing, broken, or does not fit the model; the message says which, why, and what to try."""

    on_every_rank = True


@dataclass
class LoadReport:
    """What happened to every entry of a file of weights and of the model's state dict."""

    loaded: list[str] = field(default_factory=list)
    """Entries of the model that were filled from the file."""
    inflated: list[str] = field(default_factory=list)
    """Those of `loaded` that were 2-D kernels and got a time axis of more than one frame."""
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

    def excusing(self, prefixes: tuple[str, ...]) -> LoadReport:
        """The same report without the misfits whose names start with one of `prefixes`."""
        return LoadReport(
            loaded=self.loaded,
            inflated=self.inflated,
            missing=[name for name in self.missing if not name.startswith(prefixes)],
            unexpected=[name for name in self.unexpected if not name.startswith(prefixes)],
            mismatched=[entry for entry in self.mismatched if not entry[0].startswith(prefixes)],
        )


def load(model: nn.Module, path: str | Path, strict: bool, average: bool, suggest: Suggest) -> LoadReport:
    """See `models.load_weights`."""
    weights = adapt(model, path, read(path, average))
    report = compare(model, weights)
    if not report.loaded or (strict and report.misfits()):
        raise WeightsError(_misfit(model, path, weights, report, suggest))
    return _fill(model, weights, report)


def load_into_another(model: nn.Module, path: str | Path, suggest: Suggest) -> LoadReport:
    """See `models.load_pretrained`."""
    from glore3d.inflate import inflate_weights

    weights = adapt(model, path, read(path), resize=True)
    weights, inflated = inflate_weights(weights, _shapes(model))
    report = compare(model, weights)
    report.inflated = inflated
    units = [f"{name}." for name in getattr(model, "unit_names", ())] if inflated else []
    unexcused = report.excusing((*classifiers(model), *units))
    if not report.loaded or unexcused.misfits():
        raise WeightsError(_misfit(model, path, weights, unexcused, suggest))
    return _fill(model, weights, report)


def read(path: str | Path, average: bool = False) -> dict[str, torch.Tensor]:
    """The state dict in a file, on the CPU, whatever it is wrapped in; `average`: the one under `model_ema`."""
    import safetensors.torch
    import torch

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
    if average and "model_ema" not in content:
        raise WeightsError(f"{path}: holds no moving average of the weights (model_ema), but {_summary(content)}")
    for key in ("model_ema",) if average else ("state_dict", "model", "model_ema"):
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


def adapt(model: nn.Module, path: str | Path, weights: dict[str, torch.Tensor], resize: bool = False) -> dict:
    """The weights in the model's own form, if the model knows other forms (`adapt_weights`)."""
    if not hasattr(model, "adapt_weights"):
        return weights
    try:
        return model.adapt_weights(weights, resize=resize)
    except ValueError as error:
        raise WeightsError(f"{path}: does not fit {_name(model)}: {error}") from error


def _name(model: nn.Module) -> str:
    return getattr(model, "model_name", type(model).__name__)


def classifiers(model: nn.Module) -> tuple[str, ...]:
    """How the names of the classifier's entries begin."""
    return getattr(model, "classifier_names", ("classifier.",))


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def compare(model: nn.Module, weights: Weights) -> LoadReport:
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


def _fill(model: nn.Module, weights: Weights, report: LoadReport) -> LoadReport:
    model.load_state_dict({name: weights[name] for name in report.loaded}, strict=False)
    return report


def _misfit(model: nn.Module, path: str | Path, weights: Weights, report: LoadReport, suggest: Suggest) -> str:
    """The error for a file that does not fit, with what to try next."""
    name, excused = _name(model), classifiers(model)
    classes = [theirs[0] for entry, theirs, _ in report.mismatched if entry.startswith(excused)]
    only_classifier = not report.excusing(excused).misfits()
    if only_classifier and getattr(model, "num_classes", None) == 0:
        hint = "load_pretrained, which leaves the file's classifier out"
    elif only_classifier and classes:
        hint = f"num_classes={classes[0]}, which the file was made for, or load_pretrained to fine-tune from it"
    elif other := suggest(name, weights):
        hint = f"{other}, which the file fits"
    elif only_classifier:
        hint = "load_pretrained, which does without a classifier in the file"
    elif not compare(model, adapt(model, path, weights, resize=True)).excusing(excused).misfits():
        hint = "load_pretrained, which resizes what depends on the size of the images"
    elif any(theirs == (*ours[:2], *ours[3:]) for _, theirs, ours in report.mismatched if len(ours) == 5):
        hint = "load_pretrained, which inflates the 2-D kernels of an image network"
    else:
        hint = "the model that the file was saved from; list_models() has the names"
    fitting = f"{len(report.loaded)} of the model's {len(_shapes(model))} entries fit"
    return "\n".join([f"{path}: does not fit {name}: {fitting}", *report.misfits(), f"Try: {hint}."])
