"""The methods of running a trained network faster on a CPU than PyTorch's eager mode does.

openvino, onnxruntime, compile     the same float32 arithmetic, its operations fused
bf16, openvino_bf16                products in bfloat16, for processors with AMX or AVX512-BF16
onnxruntime_int8, openvino_int8    8-bit products, for processors with VNNI or AMX; ranges from validation files
"""

import importlib.util
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from engine.allocator import allocator
from engine.precision import autocast
from inference.acceleration.runtimes import compiler, read_compiled, read_openvino, write_compiled, write_openvino
from inference.export.compare import Forward
from inference.export.forms import exportable, trace
from inference.export.int8 import write_int8
from inference.export.onnx_file import OnnxNetwork, write_onnx
from inference.export.views import as_array
from settings import SettingsError
from tasks.classification_settings import AccelerationMethod

log = logging.getLogger(__name__)

EXTRA = "pip install '.[accelerate]'"
IN_TURN: tuple[AccelerationMethod, ...] = ("openvino", "onnxruntime", "compile")
""""auto" takes the first of these that can run here. They differ from eager mode only by rounding."""


class Source:
    """A network and the files that methods make from it. Each is made on first use and kept in a folder.

    Args:
        model: in eval mode.
        shape: of one input, without the batch.
        name: for messages.
        folder: where the files are kept.
        calibration: gives float32 inputs [B, ...] that calibrate the int8 ranges; None: there are none.
    """

    def __init__(
        self,
        model: nn.Module,
        shape: tuple[int, ...],
        name: str,
        folder: Path,
        calibration: Callable[[], Iterable[np.ndarray]] | None = None,
    ):
        self.model, self.shape, self.name, self.folder = model, shape, name, folder
        self._calibration = calibration
        self._opened: dict[AccelerationMethod, Forward] = {}

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        return trace(exportable(self.model), self.shape, self.name)

    def calibration(self) -> Iterable[np.ndarray]:
        if self._calibration is None:
            raise SettingsError("int8 needs files to calibrate its ranges; set data.val to files that exist")
        return self._calibration()

    def file(self, name: AccelerationMethod) -> Path:
        """The file of a method."""
        method = METHODS[name]
        path = self.folder / method.file
        if method.file and not path.exists():
            log.info("acceleration: making %s, once", path)
            method.write(self, path)
        return path

    def open(self, name: AccelerationMethod) -> Forward:
        """The network as a method runs it: float32 [B, ...] to float32 logits [B, classes]."""
        if name not in self._opened:
            self._opened[name] = METHODS[name].read(self.file(name), self.model)
        return self._opened[name]

    def clear(self) -> None:
        """Deletes all files, so that they are made anew."""
        self._opened.clear()
        for path in self.folder.iterdir():
            path.unlink()


@dataclass(frozen=True)
class Method:
    """One method of running a network."""

    read: Callable[[Path, nn.Module], Forward]
    """Opens the file made from a network."""
    file: str = ""
    """Its file's name; methods that read the same file share it. Empty: no file."""
    write: Callable[[Source, Path], None] = lambda source, path: None
    packages: tuple[str, ...] = ()
    """What has to be installed."""
    needs_compiler: bool = False
    is_exact: bool = True
    """Whether it differs from eager mode only by rounding."""
    needs_ranges: bool = False
    """Whether its int8 ranges are calibrated on files."""

    @property
    def missing(self) -> str:
        """What is missing, and how to get it; empty: it can run here."""
        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if absent:
            return f"{absent[0]}: {EXTRA}"
        if "openvino" in self.packages and allocator() == "jemalloc":
            return "another allocator than jemalloc, with which OpenVINO crashes; start the command with LD_PRELOAD="
        return "a C++ compiler, such as g++" if self.needs_compiler and compiler() is None else ""


def _in_bf16(path: Path, model: nn.Module) -> Forward:
    def forward(x: torch.Tensor) -> torch.Tensor:
        with autocast("bf16", x.device):
            return model(x).float()

    return forward


def _in_onnx_runtime(path: Path, model: nn.Module) -> Forward:
    network = OnnxNetwork(path, torch.get_num_threads())
    return lambda x: torch.from_numpy(network(as_array(x)))


_OPENVINO = {
    "file": "openvino.xml",
    "write": lambda source, path: write_openvino(source.program, path),
    "packages": ("openvino",),
}
_ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")

METHODS: dict[AccelerationMethod, Method] = {
    "openvino": Method(lambda path, model: read_openvino(path, "f32"), **_OPENVINO),
    "onnxruntime": Method(
        _in_onnx_runtime,
        file="network.onnx",
        write=lambda source, path: write_onnx(source.program, path, source.name),
        packages=_ONNX_PACKAGES,
    ),
    "compile": Method(
        lambda path, model: read_compiled(path),
        file="network.pt2",
        write=lambda source, path: write_compiled(source.program, path),
        needs_compiler=True,
    ),
    "bf16": Method(_in_bf16, is_exact=False),
    "openvino_bf16": Method(lambda path, model: read_openvino(path, "bf16"), is_exact=False, **_OPENVINO),
    "onnxruntime_int8": Method(
        _in_onnx_runtime,
        file="network.int8.onnx",
        write=lambda source, path: write_int8(source.file("onnxruntime"), path, source.calibration(), source.name),
        packages=_ONNX_PACKAGES,
        is_exact=False,
        needs_ranges=True,
    ),
    "openvino_int8": Method(
        lambda path, model: read_openvino(path, "f32"),
        file="openvino.int8.xml",
        write=lambda source, path: write_openvino(source.file("onnxruntime_int8"), path),
        packages=("openvino", *_ONNX_PACKAGES),
        is_exact=False,
        needs_ranges=True,
    ),
}


def methods_to_try(wanted: str | tuple[AccelerationMethod, ...]) -> tuple[AccelerationMethod, ...]:
    """The methods for the setting `evaluation.acceleration`; () with "auto" if none can run here.

    Raises SettingsError if a named method cannot run here.
    """
    if wanted == "auto":
        able = tuple(name for name in IN_TURN if not METHODS[name].missing)
        return able[:1]
    for name in wanted:
        if METHODS[name].missing:
            raise SettingsError(f"evaluation.acceleration: {name} needs {METHODS[name].missing}")
    return tuple(wanted)
