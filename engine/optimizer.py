"""Optimizers, with learning-rate multipliers and weight decay chosen by parameter name."""

import re
from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from settings import Settings, SettingsError


class OptimizerSettings(Settings):
    """How the weights move. Patterns are regular expressions, searched in names such as `conv3.B01.conv_m1.bn.bias`."""

    name: Literal["sgd", "adamw"] = Field("sgd", description="sgd (with momentum) or adamw")
    lr: float = Field(gt=0, description="peak learning rate, for the whole batch of one step")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd")
    nesterov: bool = Field(True, description="Nesterov's momentum (sgd)")
    betas: tuple[float, float] = Field((0.9, 0.999), description="decay rates of adamw's two moments")
    eps: float = Field(1e-8, gt=0, description="what adamw adds to the root of the second moment")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty (sgd) or decoupled decay (adamw), per step")
    no_decay: list[str] = Field([], description="patterns of parameters without weight decay")
    no_decay_vectors: bool = Field(
        False, description="no weight decay for parameters of one axis: biases, norms, scales"
    )
    lr_multipliers: dict[str, float] = Field(
        {}, description="pattern: factor on the learning rate; the first that fits"
    )
    layer_decay: float | None = Field(
        None, gt=0, lt=1, description="factor on the learning rate for each layer further from the classifier"
    )
    clip_grad_norm: float | None = Field(None, gt=0, description="largest norm of the whole gradient; none: no limit")

    @model_validator(mode="after")
    def _settings_belong_to_the_optimizer(self):
        foreign = ("betas", "eps") if self.name == "sgd" else ("momentum", "nesterov")
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


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict]:
    """Groups of trainable parameters that share `lr_multiplier` and `weight_decay`; each keeps its parameters' names.

    Layer decay is that of BEiT (arXiv 2106.08254): layer l of L has the rate times `layer_decay` ** (L - l). The model
    says which layer a parameter is of, from 0 to `num_layers`, by its method `layer_of(name)`.

    Raises SettingsError where a pattern of the settings fits no parameter: it would silently do nothing; and where
    layer decay is asked of a model that does not know its layers.
    """
    if settings.layer_decay and not hasattr(model, "layer_of"):
        raise SettingsError(
            f"optimizer.layer_decay: {type(model).__name__} does not say which layers it has; set it to null"
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
        # Single numbers are not sharded, and optimizers take sharded parameters and others in groups of their own.
        group = groups.setdefault(
            (multiplier, decay, parameter.dim() == 0),
            {"params": [], "names": [], "lr_multiplier": multiplier, "weight_decay": decay},
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if unused:
        raise SettingsError(f"optimizer patterns that fit no parameter of the model: {sorted(unused)}")
    return list(groups.values())


def build_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer of the trainable parameters of `model`, in the groups of `parameter_groups`."""
    groups = parameter_groups(model, settings)
    if settings.name == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets every group to `lr` times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_multiplier"]
