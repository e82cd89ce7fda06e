"""Runtimes other than PyTorch's eager mode and ONNX Runtime: OpenVINO, and PyTorch's own compiler ahead of time."""

import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from engine.checkpoint import write_atomically
from inference.export.compare import Forward
from inference.export.forms import quiet_loggers

COMPILERS = ("c++", "g++", "clang++")


def write_openvino(source: torch.export.ExportedProgram | Path, path: Path) -> None:
    """Writes a program of torch.export, or an ONNX file, as OpenVINO's NAME.xml and NAME.bin beside it."""
    sys.modules.setdefault("openvino_telemetry", None)  # its converter would report each use to Google Analytics
    import openvino

    with quiet_loggers(), torch.no_grad():
        model = openvino.convert_model(str(source) if isinstance(source, Path) else source)

    def write(temporary: Path) -> None:
        named = temporary.with_suffix(".xml")  # OpenVINO derives the name of the other file from this ending
        openvino.save_model(model, named, compress_to_fp16=False)
        named.with_suffix(".bin").replace(path.with_suffix(".bin"))
        named.replace(temporary)

    write_atomically(path, write)


def read_openvino(path: Path, precision: Literal["f32", "bf16"]) -> Forward:
    """The network in a file of `write_openvino`, with as many threads as PyTorch has here.

    OpenVINO would otherwise compute in bfloat16 on processors that have it, whatever the file holds.
    """
    network = _core().compile_model(
        str(path),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        },
    )
    request = network.create_infer_request()

    def forward(x: torch.Tensor) -> torch.Tensor:
        request.infer([x.float().contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(request.get_output_tensor(0).data.copy())  # the next call overwrites its own

    return forward


@cache
def _core() -> Any:
    """The process's only `openvino.Core`, which it keeps.

    With AMX, each Core gives the process another stack for signal handlers, and restores the previous one when it ends.
    If the first of two ends first, that stack is already freed, and the next signal kills the process.
    """
    import openvino

    return openvino.Core()


def compiler() -> str | None:
    """The C++ compiler that PyTorch's compiler needs; None: there is none."""
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def write_compiled(program: torch.export.ExportedProgram, path: Path) -> None:
    """Compiles a program ahead of time, its weights folded into the code."""

    def write(temporary: Path) -> None:
        named = temporary.with_suffix(".pt2")
        torch._inductor.aoti_compile_and_package(program, package_path=str(named), inductor_configs={"freezing": True})
        named.replace(temporary)

    with quiet_loggers(), torch.no_grad():
        write_atomically(path, write)


def read_compiled(path: Path) -> Forward:
    """The network in a file of `write_compiled`."""
    with quiet_loggers():
        network = torch._inductor.aoti_load_package(str(path))
    return lambda x: network(x.float().contiguous())  # it assumes the strides it was compiled for
