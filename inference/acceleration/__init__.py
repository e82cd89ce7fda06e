"""Runs trained networks faster on a CPU than PyTorch's eager float32 mode does (`evaluation.acceleration`).

A method is used only where it was measured to be faster, and only if its outputs match the network's: see `choice`. Its
files and the choice are kept beside the weights, in accelerated/, so that only the first start makes and measures them.
"""

import atexit
import glob
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from engine.precision import autocast
from engine.task import Task
from inference.acceleration.choice import Choice, choose, versions
from inference.acceleration.methods import METHODS, Source, methods_to_try
from inference.export.compare import Forward
from inference.export.views import FilesToCompare
from inference.trained import weights_digest
from settings import SettingsError
from tasks.classification import Classification
from tasks.classification_settings import AccelerationMethod

__all__ = ["METHODS", "AcceleratedNetwork", "Choice", "accelerate"]

log = logging.getLogger(__name__)

LARGEST_BATCH = 4
NUM_CALIBRATION, NUM_COMPARED = 64, 200
"""Numbers of files of data.val that calibrate the int8 ranges, and of others to compare predictions on."""


class AcceleratedNetwork(nn.Module):
    """A network in eval mode that another runtime runs: float32 [B, ...] to float32 logits [B, classes].

    Inputs of another shape than the evaluation's, and gradients, go through `eager`, which is the network itself.
    """

    def __init__(self, eager: nn.Module, forward: Forward, shape: tuple[int, ...], choice: Choice):
        super().__init__()
        self.eager, self._forward, self.shape, self.choice = eager, forward, shape, choice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1:] != self.shape or torch.is_grad_enabled():
            return self.eager(x)
        return self._forward(x.float())


def accelerate(task: Task, model: nn.Module, weights: Path, average: bool = False) -> nn.Module:
    """The network as set by `evaluation.acceleration`: an `AcceleratedNetwork`, or `model` if nothing is faster.

    Args:
        task: its task; every rank calls this.
        model: in eval mode, on the task's device.
        weights: the file that its weights come from.
          average: whether they are the file's averaged weights.

    Raises SettingsError if a method is named that cannot run here.
    """
    wanted = task.settings.evaluation.acceleration if isinstance(task, Classification) else "off"
    if wanted == "off":
        return model
    if task.ranks.device.type != "cpu":
        if wanted == "auto":
            log.info("acceleration: on %s the network runs as it is; the methods are for CPUs", task.ranks.device)
            return model
        raise SettingsError("evaluation.acceleration: the methods are for CPUs; set run.device=cpu, or leave it off")
    methods = methods_to_try(wanted)
    if not methods:
        log.info("acceleration: there is nothing to try; openvino is in pip install '.[accelerate]'")
        return model
    _, shape = task.validation_shape()
    eager = _as_evaluated(task, model)
    files = _files(task, methods)
    calibration, compared = (files.calibration, files.rest) if files else (None, None)
    source = Source(model, shape, task.settings.model.name, _folder(weights, average, shape), calibration)
    batch_size = min(task.views_per_forward, LARGEST_BATCH)
    with torch.inference_mode():
        choice = task.ranks.on_main(lambda: choose(source, eager, methods, batch_size, compared, task.multi_label))
        log.info("acceleration: %s", choice)
        if choice.method is None:
            return model
        forward = source.open(choice.method)
    return AcceleratedNetwork(model, forward, shape, choice)


def _as_evaluated(task: Classification, model: nn.Module) -> Forward:
    """The network in the precision of the recipe, as an evaluation runs it."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        with autocast(task.settings.train.precision, x.device):
            return model(x).float()

    return forward


def _files(task: Classification, methods: Sequence[AccelerationMethod]) -> FilesToCompare | None:
    """Files of the validation list for the methods that are not exact.

    None if there is no such method, or if the list is missing, as for a network that somebody else trained.
    """
    if all(METHODS[name].is_exact for name in methods):
        return None
    num_calibration = NUM_CALIBRATION if any(METHODS[name].needs_ranges for name in methods) else 0
    try:
        return FilesToCompare(task, task.val_files, num_calibration, NUM_COMPARED)
    except SettingsError as error:
        log.warning("acceleration: no files to compare predictions on: %s", error)
        return None


def _folder(weights: Path, average: bool, shape: tuple[int, ...]) -> Path:
    """The folder for the files of these weights. Those of earlier weights under the same name are deleted.

    If it cannot be written, a temporary one, which is deleted when the process ends.
    """
    digest = hashlib.sha256(json.dumps([weights_digest(weights), versions()]).encode()).hexdigest()[:12]
    name = "-".join([weights.stem, *["average"] * average, "x".join(map(str, shape))])
    place = weights.parent.parent if weights.parent.name == "checkpoints" else weights.parent
    folder = place / "accelerated" / f"{name}-{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        log.warning("acceleration: cannot write to %s, so the next start makes its files anew: %s", folder, error)
        folder = Path(tempfile.mkdtemp(prefix="accelerated-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder
    for other in folder.parent.glob(f"{glob.escape(name)}-*"):
        if other != folder and len(other.name) == len(folder.name):
            shutil.rmtree(other, ignore_errors=True)
    return folder
