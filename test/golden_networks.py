"""A network against the authors': its entries, its operations, and every number that a golden file has of it."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from golden_weights import deviation, input_for, read_golden, state_dict_for
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

TOLERANCE = 2e-7  # in standard deviations, of float64 networks


def slow_or_weekly(names: Iterable[str], weekly: Iterable[str]) -> list[Any]:
    """Networks as test parameters: those that cost too much for CI run once a week."""
    return [pytest.param(name, marks=pytest.mark.weekly if name in weekly else pytest.mark.slow) for name in names]


def as_they_are(part: str, feature: torch.Tensor) -> torch.Tensor:
    return feature


def check_entries(name: str, build: Callable[..., nn.Module]) -> None:
    """Names and shapes of the state dict, parameters, and operations of one forward pass; takes no memory."""
    golden = read_golden(name)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = build(num_classes=golden["num_classes"]).eval()
        model(torch.empty(golden["flops_shape"]))
    assert {entry: list(tensor.shape) for entry, tensor in model.state_dict().items()} == golden["state_dict"]
    assert sum(parameter.numel() for parameter in model.parameters()) == golden["params"]
    assert counter.get_total_flops() == golden["flops"]


def check_numbers(
    name: str,
    build: Callable[..., nn.Module],
    with_gradients: bool,
    as_authors: Callable[[str, torch.Tensor], torch.Tensor] = as_they_are,
) -> None:
    """Logits, features on the way and the gradient of every parameter, in float64.

    Without gradients it is quick: it compares the logits and features of the first image only. `as_authors` makes the
    authors' feature from ours where they differ, given the part's name. Entries that the file calls fixed are the
    network's own.
    """
    golden = read_golden(name)
    with torch.device("meta"):
        model = build(num_classes=golden["num_classes"])
    weights = state_dict_for(golden["state_dict"], skip=golden.get("fixed", ()))
    model.load_state_dict(model.adapt_weights(weights) if "fixed" in golden else weights, assign=True)
    model.double().eval()
    features = {}

    def keep(module, args, output, part):
        whole = torch.cat(output, dim=1) if isinstance(output, tuple) else output
        features[part] = as_authors(part, whole.detach())

    for part in golden["features"]:
        model.get_submodule(part).register_forward_hook(partial(keep, part=part))
    images = input_for(golden["input_shape"]).double()
    num_images = len(images) if with_gradients else 1
    with torch.set_grad_enabled(with_gradients):
        logits = model(images[:num_images])
    assert deviation(logits, golden["output"][:num_images]) < TOLERANCE
    for part, values in golden["features"].items():
        feature, (mean, std, *first) = features[part], values
        if "feature_shapes" in golden:
            assert list(feature.shape) == [num_images, *golden["feature_shapes"][part][1:]], part
        assert (feature.flatten()[:8] - torch.tensor(first, dtype=torch.float64)).abs().max() < TOLERANCE * std, part
        if with_gradients:
            assert abs(feature.mean() - mean) < TOLERANCE * std, part
            assert abs(feature.std(correction=0) - std) < TOLERANCE * std, part
    if not with_gradients:
        return
    (logits * input_for(logits.shape, seed=1)).sum().backward()
    grads = {entry: parameter.grad for entry, parameter in model.named_parameters()}
    assert grads.keys() == golden["grad_norms"].keys()
    for entry, norm in golden["grad_norms"].items():
        # The gradient of a single number is what is left of a sum over whole maps that all but cancels.
        tolerance = TOLERANCE if grads[entry].dim() else 10 * TOLERANCE
        assert abs(grads[entry].norm() - norm) < tolerance * norm, entry
    for entry, (norm, *first) in golden["grad"].items():
        first = torch.tensor(first, dtype=torch.float64)
        assert (grads[entry].flatten()[: len(first)] - first).abs().max() < TOLERANCE * norm, entry
