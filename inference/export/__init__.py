"""Trained networks as files for other programs: ONNX, 8-bit ONNX for CPUs, and torch.export.

A description is written beside the files, NAME.json: input, preprocessing, class names, and measurements of each file.
A file is kept only if its outputs match the network's at several batch sizes; the loss of agreement of the 8-bit file
is measured on files that did not calibrate its ranges.
"""

import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datasets.file_list import FileList
from engine.checkpoint import write_atomically
from engine.environment import processor_name
from inference.export.compare import TOLERANCE, Forward, compare_speed, max_differences, measure_agreement
from inference.export.description import describe
from inference.export.forms import ExportError, exportable, trace
from inference.export.int8 import write_int8
from inference.export.onnx_file import OnnxNetwork, require_onnx, write_onnx
from inference.export.summary import summary
from inference.export.torch_file import read_program, write_program
from inference.export.views import FilesToCompare, as_array
from inference.trained import TrainedNetwork
from settings import SettingsError

__all__ = ["FORMATS", "ExportError", "ExportOptions", "export_network", "summary"]

log = logging.getLogger(__name__)

FORMATS = {"onnx": ".onnx", "torch": ".pt2", "int8": ".int8.onnx"}
ADVICE = "; try --formats torch"
"""For networks that cannot be written as ONNX."""


@dataclass(frozen=True)
class ExportOptions:
    """What to write and measure."""

    formats: tuple[str, ...] = ("onnx",)
    num_calibration: int = 64
    """Number of files that calibrate the 8-bit file's ranges; at most half of the available files."""
    num_compared: int = 200
    """Number of other files on which predictions are compared; 0: none."""
    batch_size: int = 1
    """Batch size for timing."""
    repeats: int = 10
    """Timed batches; 0: no timing."""


def export_network(
    trained: TrainedNetwork, files: Callable[[], FileList], folder: Path, options: ExportOptions = ExportOptions()
) -> dict[str, Any]:
    """Writes NAME.onnx, NAME.pt2, NAME.int8.onnx as `options` say, and NAME.json -> the contents of NAME.json.

    Args:
        trained: the network, on the CPU.
        files: gives the files for calibration and comparison; called only if they are needed.
        folder: where to write.
        options: formats, and what to measure.

    Raises:
        ExportError: a format cannot represent the network, or the file's outputs differ.
        SettingsError: a package is missing, or there are no files to calibrate with.
    """
    if {"onnx", "int8"} & set(options.formats):
        require_onnx()
    name = trained.task.settings.model.name.replace("/", "_")  # timm/resnet18
    _, shape = trained.task.validation_shape()
    description = describe(trained)
    compared = _files_to_compare(trained, files, options)
    paths = {format: folder / f"{name}{FORMATS[format]}" for format in FORMATS if format in options.formats}
    program = trace(exportable(trained.model), shape, name)

    measured: dict[str, dict[str, Any]] = {}
    networks: dict[str, Forward] = {}
    for format, path in paths.items():
        _write(format, program, paths, name, compared)
        networks[format] = _network(format, path)
        measured[format] = {"file": path.name, "bytes": path.stat().st_size}
        measured[format] |= _check(format, path, name, trained.model, networks[format], shape)
    if compared is not None and options.num_compared:
        found = measure_agreement(trained.model, networks, compared.rest(), trained.task.multi_label)
        for format, agreement in found.items():
            measured[format]["agreement"] = agreement.as_dict()
    if options.repeats:
        for format, (milliseconds, ratio) in compare_speed(
            trained.model, networks, shape, options.batch_size, options.repeats
        ).items():
            measured.setdefault(format, {})["speed"] = {"milliseconds": milliseconds, "times_as_fast_as_eager": ratio}
    where = {"processor": processor_name(), "threads": torch.get_num_threads(), "batch_size": options.batch_size}
    description |= {"files": measured, "measured_on": where}
    text = json.dumps(description, indent=1) + "\n"
    write_atomically(folder / f"{name}.json", lambda temporary: temporary.write_text(text))
    return description


def _files_to_compare(
    trained: TrainedNetwork, files: Callable[[], FileList], options: ExportOptions
) -> FilesToCompare | None:
    """None if no files are needed, or if they do not exist and only the comparison needs them."""
    needs_ranges = "int8" in options.formats
    if not needs_ranges and not options.num_compared:
        return None
    if needs_ranges and not options.num_calibration:
        raise SettingsError("--calibrate 0: int8 needs files to set its ranges; use 32 or more")
    try:
        return FilesToCompare(trained.task, files(), options.num_calibration, options.num_compared)
    except SettingsError as error:
        if needs_ranges:
            raise SettingsError(f"int8 needs files to set its ranges: {error}") from error
        log.warning("predictions are not compared: %s", error)
        return None


def _write(format: str, program: Any, paths: dict[str, Path], name: str, compared: FilesToCompare | None) -> None:
    path = paths[format]
    log.info("writing %s", path)
    if format == "torch":
        write_program(program, path)
    elif format == "onnx":
        write_onnx(program, path, name, ADVICE)
    else:
        with tempfile.TemporaryDirectory() as folder:
            source = paths.get("onnx")  # comes before int8 in FORMATS, so it is written by now
            if source is None:
                source = Path(folder, "float32.onnx")
                write_onnx(program, source, name, ADVICE)
            write_int8(source, path, compared.calibration(), name)


def _network(format: str, path: Path) -> Forward:
    if format == "torch":
        return read_program(path)
    network = OnnxNetwork(path, torch.get_num_threads())
    return lambda x: torch.from_numpy(network(as_array(x)))


def _check(
    format: str, path: Path, name: str, model: Forward, network: Forward, shape: tuple[int, ...]
) -> dict[str, Any]:
    """The differences from the network by batch size; a float32 file that differs is deleted with an ExportError."""
    differences = max_differences(model, network, shape)
    largest = max(differences.values())
    if format != "int8" and not largest <= TOLERANCE:
        path.unlink()
        raise ExportError(
            f"{name} as {format}: outputs differ by {largest:.1e} of the largest logit, more than {TOLERANCE:g}; the "
            "file was deleted. Please report it with the recipe"
        )
    return {"max_relative_difference": {str(size): value for size, value in differences.items()}}
