"""Runs a network once and records the inputs and outputs of some of its modules, by forward hooks."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from backbones import PerFrame


class Call(NamedTuple):
    """One call of a module."""

    inputs: tuple[Any, ...]
    output: Any


def own_network(model: nn.Module) -> nn.Module:
    """The network whose layers are named and explained; the image network, if a model applies one to each frame."""
    return model.network if isinstance(model, PerFrame) else model


def modules_of(model: nn.Module, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> dict[str, nn.Module]:
    """The modules of a kind by their name in `own_network(model)`, in definition order."""
    return {name: module for name, module in own_network(model).named_modules() if isinstance(module, kind)}


def record(model: nn.Module, x: torch.Tensor, modules: Mapping[str, nn.Module]) -> dict[str, Call]:
    """The last call of each module in `model(x)`, by its name."""
    calls: dict[str, Call] = {}
    with whole_maps(model), ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(_keep(calls, name)).remove)
        model(x)
    return calls


def _keep(calls: dict[str, Call], name: str):
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls[name] = Call(inputs, output)

    return hook


@contextmanager
def whole_maps(model: nn.Module) -> Iterator[None]:
    """Runs networks as in training, but without gradients for their weights, which would keep every map in memory.

    Otherwise, inference on a CPU processes maps in parts and overwrites them (HorNet, EurNet).
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
