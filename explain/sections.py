"""What is shown for a network: Grad-CAM, and the intermediate maps of its family."""

from typing import NamedTuple

import torch
from torch import nn

from backbones import EAT, GLNet, HorNet
from eurgraph import EurNet
from eurgraph.grid import describe
from explain.eat import eat_sections
from explain.eurnet import eurnet_sections
from explain.glnet import glnet_sections
from explain.glore import UNITS, glore_sections
from explain.grad_cam import GradCam
from explain.hornet import hornet_sections
from explain.panels import MapPanel, Section
from explain.recording import own_network
from settings import SettingsError


class Options(NamedTuple):
    """What to show for a network that has more maps than fit on a sheet."""

    num_maps: int = 4
    """Number of maps of each unit or block."""
    stage: int | None = None
    """EurNet: the stage of the patch, from 1. None: the last one with a medium range."""
    patch: tuple[int, ...] | None = None
    """EurNet: row, column and frame of the patch, in patches of the stage. None: where Grad-CAM is largest."""


DEFAULT_OPTIONS = Options()


def cam_section(cam: GradCam, class_name: str, is_predicted: bool) -> Section:
    kind = "predicted class" if is_predicted else "chosen class"
    note = f"Where the {kind} is seen. Layer {cam.layer}, {describe(cam.values.shape)} positions (T x H x W)."
    return Section(f"Grad-CAM for {class_name}", note, (MapPanel(f"Grad-CAM: {class_name}", cam.values),))


def own_sections(model: nn.Module, x: torch.Tensor, cam: GradCam, options: Options) -> list[Section]:
    """The sections of a network's family; none for other networks.

    Raises SettingsError if the options name a patch or a stage that does not exist, or the network has no patches.
    """
    network = own_network(model)
    if isinstance(network, EurNet):
        return eurnet_sections(model, x, cam.values, options.stage, options.patch)
    if options.patch is not None or options.stage is not None:
        raise SettingsError("--patch and --stage show the neighbors of a patch; only EurNet has such a graph")
    if isinstance(network, EAT):
        return eat_sections(model, x)
    if isinstance(network, GLNet):
        return glnet_sections(model, x, options.num_maps)
    if isinstance(network, HorNet):
        return hornet_sections(model, x)
    if any(isinstance(module, UNITS) for module in network.modules()):
        return glore_sections(model, x, options.num_maps)
    return []
