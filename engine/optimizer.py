"""Optimizers, with learning-rate multipliers and weight decay by parameter name."""

import re
from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from settings import Settings, SettingsError

Beta = Annotated[float, Field(ge=0, lt=1)]

FOR_ANY_NETWORK = "settings that fit any network: optimizer.no_decay=[] optimizer.no_decay_vectors=true"


class OptimizerSettings(Settings):
    """The optimizer. Patterns are regular expressions, searched in names such as `conv3.B01.conv_m1.bn.bias`."""

    name: Literal["sgd", "adamw"] = Field("sgd", description="sgd (with momentum) or adamw")
    lr: float = Field(gt=0, description="peak learning rate for the whole batch of a step")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd: momentum")
    nesterov: bool = Field(True, description="sgd: use Nesterov momentum")
    betas: tuple[Beta, Beta] = Field((0.9, 0.999), description="adamw: decay rates of the two moments")
    eps: float = Field(1e-8, gt=0, description="adamw: added to the root of the second moment")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty (sgd) or decoupled decay (adamw), per step")
    no_decay: list[str] = Field([], description="patterns of parameters without weight decay")
    no_decay_vectors: bool = Field(
        False, description="no weight decay for 1-D parameters: biases, norms, scales of channels"
    )
    lr_multipliers: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {}, description="pattern: factor on the learning rate; the first match counts"
    )
    layer_decay: float | None = Field(
        None, gt=0, lt=1, description="factor on the learning rate per layer of distance from the classifier"
    )
    clip_grad_norm: float | None = Field(None, gt=0, description="clip the global gradient norm to this; none: no clip")

    @model_validator(mode="after")
    def _settings_belong_to_the_optimizer(self):
        foreign = ("betas", "eps") if self.name == "sgd" else ("momentum", "nesterov")
        for name in foreign:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} does not apply to {self.name}; remove it or choose another optimizer.name")
        return self

    @field_validator("no_decay", "lr_multipliers")
    @classmethod
    def _patterns_compile(cls, patterns):
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        return patterns


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict]:
    """Groups the trainable parameters by `lr_multiplier` and `weight_decay`; `names` lists the parameters of a group.

    Layer decay follows BEiT (arXiv 2106.08254): the rate of layer l of L is multiplied by `layer_decay` ** (L - l).
    The model maps a parameter to its layer, from 0 to `num_layers`, with `layer_of(name)`.

    Raises SettingsError if a pattern matches no parameter, since it would silently do nothing, and if layer decay is
    set for a model without `layer_of`.
    """
    if settings.layer_decay and not hasattr(model, "layer_of"):
        raise SettingsError(
            f"optimizer.layer_decay: {type(model).__name__} does not define its layers (layer_of); set it to null"
        )
    unused = {*settings.no_decay, *settings.lr_multipliers}
    groups: dict[tuple[float, float, bool], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        multipliers = [pattern for pattern in settings.lr_multipliers if re.search(pattern, name)]
        multiplier = settings.lr_multipliers[multipliers[0]] if multipliers else 1.0
        if settings.layer_decay:
            multiplier *= settings.layer_decay ** (model.num_layers - model.layer_of(name))
        no_decay = [pattern for pattern in settings.no_decay if re.search(pattern, name)]
        unused -= {*multipliers, *no_decay}
        decays = not no_decay and not (settings.no_decay_vectors and parameter.dim() == 1)
        decay = settings.weight_decay if decays else 0.0
        # FSDP2 leaves scalars unsharded, and an optimizer group cannot mix sharded and unsharded parameters.
        group = groups.setdefault(
            (multiplier, decay, parameter.dim() == 0),
            {"params": [], "names": [], "lr_multiplier": multiplier, "weight_decay": decay},
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if unused:
        raise SettingsError(
            f"optimizer patterns that match no parameter of the model: {sorted(unused)}"
            + (f"; {FOR_ANY_NETWORK}" if unused & {*settings.no_decay} else "")
        )
    return list(groups.values())


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters of `model`, grouped by `parameter_groups`.

    Raises SettingsError if there are none.
    """
    groups = parameter_groups(model, settings)
    if not groups:
        raise SettingsError(f"{type(model).__name__} has no parameters to train; all are frozen, or there are none")
    if settings.name == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the rate of every group to `lr` times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_multiplier"]
