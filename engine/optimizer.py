"""Optimizers, with learning-rate multipliers and weight decay chosen by parameter name."""

import re
from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from engine.settings import Settings, SettingsError


class OptimizerSettings(Settings):
    """How the weights move. Patterns are regular expressions, searched in names such as `conv3.B01.conv_m1.bn.bias`."""

    name: Literal["sgd", "adamw"] = Field("sgd", description="sgd (with momentum) or adamw")
    lr: float = Field(gt=0, description="peak learning rate, for the whole batch of one step")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd")
    nesterov: bool = Field(True, description="Nesterov's momentum (sgd)")
    betas: tuple[float, float] = Field((0.9, 0.999), description="decay rates of adamw's two moments")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty (sgd) or decoupled decay (adamw), per step")
    no_decay: list[str] = Field([], description="patterns of parameters without weight decay")
    lr_multipliers: dict[str, float] = Field(
        {}, description="pattern: factor on the learning rate; the first that fits"
    )
    clip_grad_norm: float | None = Field(None, gt=0, description="largest norm of the whole gradient; none: no limit")

    @model_validator(mode="after")
    def _settings_belong_to_the_optimizer(self):
        foreign = ("betas",) if self.name == "sgd" else ("momentum", "nesterov")
        for name in foreign:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is no setting of {self.name}; leave it out or choose another optimizer.name")
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


def parameter_groups(named_parameters: Iterable[tuple[str, nn.Parameter]], settings: OptimizerSettings) -> list[dict]:
    """Groups of trainable parameters that share `lr_multiplier` and `weight_decay`; each keeps its parameters' names.

    Raises SettingsError where a pattern of the settings fits no parameter: it would silently do nothing.
    """
    unused = {*settings.no_decay, *settings.lr_multipliers}
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        multipliers = [pattern for pattern in settings.lr_multipliers if re.search(pattern, name)]
        multiplier = settings.lr_multipliers[multipliers[0]] if multipliers else 1.0
        no_decay = [pattern for pattern in settings.no_decay if re.search(pattern, name)]
        unused -= {*multipliers, *no_decay}
        decay = 0.0 if no_decay else settings.weight_decay
        group = groups.setdefault(
            (multiplier, decay), {"params": [], "names": [], "lr_multiplier": multiplier, "weight_decay": decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if unused:
        raise SettingsError(f"optimizer patterns that fit no parameter of the model: {sorted(unused)}")
    return list(groups.values())


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer of the trainable parameters of `model`, in the groups of `parameter_groups`."""
    groups = parameter_groups(model.named_parameters(), settings)
    if settings.name == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets every group to `lr` times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_multiplier"]
