"""An 8-bit ONNX file for CPUs: static quantization with ranges from calibration views.

Weights and inputs of convolutions and linear layers become 8-bit integers; everything else stays float32: norms, sums,
products of activations (attention, gates), the choice of neighbors. Weights have a scale for each output channel and
use 7 of 8 bits, because processors without VNNI add pairs of products in 16 bits, which 8 would overflow.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from engine.checkpoint import write_atomically
from inference.export.forms import ExportError, first_line, quiet_loggers
from inference.export.onnx_file import INPUT, require_onnx

QUANTIZED = ("Conv", "Gemm", "MatMul")


def write_int8(source: Path, path: Path, views: Iterable[np.ndarray], name: str) -> None:
    """Quantizes the ONNX file `source`.

    Args:
        source: the float32 file.
        path: the file to write.
        views: calibration input, float32 [B, ...] each; they set the ranges of the activations.
        name: of the network, for messages.

    Raises:
        ExportError: ONNX Runtime cannot quantize the network, or there are no views.
    """
    require_onnx()
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, batches: Iterator[np.ndarray]):
            self.batches = batches

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder, "prepared.onnx")

        def write(temporary: Path) -> None:
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(temporary),
                Reader(iter(views)),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTIZED),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"MatMulConstBOnly": True},
            )

        try:
            with quiet_loggers():
                write_atomically(path, write)
        except (ValueError, IndexError, KeyError, TypeError, AssertionError, AttributeError) as error:
            raise ExportError(f"{name} cannot be written as int8: {first_line(error)}; use --formats onnx") from error
