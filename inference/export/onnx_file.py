"""ONNX files: written by torch.onnx, run by ONNX Runtime."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.checkpoint import write_atomically
from inference.export.forms import ExportError, first_line, quiet_loggers
from settings import SettingsError

OPSET = 20
INPUT, OUTPUT, BATCH = "views", "logits", "batch"


def write_onnx(program: torch.export.ExportedProgram, path: Path, name: str, advice: str = "") -> None:
    """Writes a program as one ONNX file: `views` [batch, ...] to `logits` [batch, classes].

    Raises ExportError, naming the network `name` and ending with `advice`, if it has an operation that ONNX lacks.
    """
    require_onnx()
    import onnx

    try:
        with quiet_loggers(), torch.no_grad():
            exported = torch.onnx.export(
                program, dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT], verbose=False
            )
    except Exception as error:  # of any kind
        raise ExportError(f"{name} cannot be written as ONNX: {first_line(error)}{advice}") from error
    proto = exported.model_proto
    _name_batch(proto)
    write_atomically(path, lambda temporary: onnx.save(proto, temporary))


def _name_batch(proto: Any) -> None:
    """Names the free dimension "batch", which torch calls something like s77."""
    graph = proto.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"\bs\d+\b", BATCH, dim.dim_param)


class OnnxNetwork:
    """An ONNX file in ONNX Runtime, on the CPU: float32 [B, ...] to float32 [B, classes].

    Raises ExportError if the file cannot be run.
    """

    def __init__(self, path: str | Path, num_threads: int = 1):
        require_onnx()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads slow others
        options.log_severity_level = 3  # errors
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of any type: ONNX Runtime's own are not public
            raise ExportError(f"ONNX Runtime cannot run {path}: {first_line(error)}") from error
        self.input = self.session.get_inputs()[0].name

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {self.input: x})[0]


def require_onnx() -> None:
    """Raises SettingsError if a package for ONNX is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise SettingsError(f"export to ONNX needs {error.name}: pip install '.[export]'") from error
