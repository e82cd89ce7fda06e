"""Checks before the first step whether a network accepts the input of a recipe.

The network runs on torch's meta device, which computes shapes but no values, in milliseconds and without memory. The
first time, torch imports its compiler: two seconds, which a training run pays anyway, for its optimizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from settings import SettingsError
from tasks.class_lists import read_setting
from tasks.fitting_settings import advise

if TYPE_CHECKING:
    from tasks.classification import Classification


def check_network(task: Classification) -> nn.Module:
    """The network of a task on the meta device, if it accepts the inputs of training and evaluation.

    Otherwise raises SettingsError, ending with settings that fit, if there are any (tasks/fitting_settings.py).
    """
    try:
        return _check_network(task)
    except SettingsError as error:
        advice = advise(task, _check_network)
        if not advice:
            raise
        raise SettingsError(f"{error}. {advice}") from error


def _check_network(task: Classification) -> nn.Module:
    with torch.device("meta"):
        model = task.build_model()
    batch_size = task.settings.train.samples_per_forward(task.ranks)
    for key, shape in task.training_shapes():
        read_setting("data.mix", task.settings.data.mix.check_side, shape[-1])
        task.check_outputs(shape, run_on_meta(key, model, (batch_size, *shape), training=True))
    _check_validation(task, model)
    return model


def check_validation(task: Classification) -> None:
    """Raises SettingsError if the network does not accept the inputs of an evaluation. Checks only once."""
    if task.validation_shape() != task.checked_shape:
        with torch.device("meta"):
            _check_validation(task, task.build_model())


@contextmanager
def explained(task: Classification) -> Iterator[None]:
    """Context of a forward pass on views; raises SettingsError if it fails because the network does not accept them."""
    try:
        yield
    except Exception:
        check_validation(task)  # only now: see the top of this file
        raise


def _check_validation(task: Classification, model: nn.Module) -> None:
    key, shape = task.validation_shape()
    run_on_meta(key, model, (1, *shape), training=False)
    task.checked_shape = key, shape


def run_on_meta(key: str, model: nn.Module, shape: tuple[int, ...], training: bool) -> Any:
    """What a `model` on the meta device returns for input of `shape`, including the batch.

    None if it branches on the values of a tensor, which do not exist there.

    Raises:
        SettingsError: the network does not accept such input; the message starts with the setting `key`.
    """
    model.train(training)
    try:
        with torch.device("meta"), torch.no_grad():
            return model(torch.empty(shape))
    except NotImplementedError:
        return None
    except Exception as error:  # of any type: networks raise different ones
        if "meta tensor" in str(error):
            return None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SettingsError(f"{key}: the network does not take {describe(shape)}: {reason}") from error


def run_copy_on_meta(key: str, model: nn.Module, shape: tuple[int, ...]) -> Any:
    """Like `run_on_meta`, for a `model` with weights on another device, in eval mode. The model stays as it is."""

    class OnMeta(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return torch.func.functional_call(model, weights, x)

    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    weights = {name: tensor.to("meta") for name, tensor in tensors.items()}
    return run_on_meta(key, OnMeta(), shape, training=False)


def describe(shape: tuple[int, ...]) -> str:
    *batch, height, width = shape
    frames = f"clips of {batch[2]} x " if len(batch) > 2 else "images of "
    return f"{frames}{height} x {width}"
