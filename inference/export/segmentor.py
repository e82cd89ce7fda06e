"""Trained segmentors as ONNX files for images of one size: [1, 3, H, W] to logits [1, K, H, W].

A description is written beside the file, NAME.json: input, preprocessing, class names, and the file's difference from
the network. A file whose outputs differ too much is deleted.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch

from engine.checkpoint import write_atomically
from inference.export.forms import ExportError, exportable, first_line
from inference.export.onnx_file import INPUT, OUTPUT, OnnxNetwork, require_onnx, write_onnx
from inference.trained import TrainedNetwork

log = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference of float32 logits from the network's, as a fraction of the largest absolute logit."""
NUM_COMPARED = 3
"""Number of random images on which the file is compared with the network."""


def export_segmentor(trained: TrainedNetwork, folder: Path, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Writes NAME.onnx and NAME.json -> the contents of NAME.json.

    Args:
        trained: the network, on the CPU; its task is segmentation.
        folder: where to write.
        size: (H, W) of the images; None: the crop that it was trained on.

    Raises:
        ExportError: ONNX cannot represent the network, or the file's outputs differ.
        SettingsError: a package is missing.
    """
    require_onnx()
    task = trained.task
    settings = task.settings
    height, width = size or settings.data.train_view.crop
    name = f"{settings.model.head}_{settings.model.backbone.replace('/', '_')}"
    model, example = exportable(trained.model), torch.randn(1, 3, height, width)
    try:
        with torch.no_grad():
            program = torch.export.export(model, (example,))
    except Exception as error:  # of any type: torch.export has many
        raise ExportError(f"{name} cannot be exported: {first_line(error)}") from error
    path = folder / f"{name}.onnx"
    log.info("writing %s", path)
    write_onnx(program, path, name)
    difference = _largest_difference(trained.model, path, (1, 3, height, width))
    if not difference <= TOLERANCE:
        path.unlink()
        raise ExportError(
            f"{name} as ONNX: outputs differ by {difference:.1e} of the largest logit, more than {TOLERANCE:g}; the "
            "file was deleted. Please report it with the recipe"
        )
    pixels = settings.data.pixels
    description = {
        "model": name,
        "task": settings.task,
        "weights": trained.weights.name,
        "torch": torch.__version__,
        "input": {"name": INPUT, "layout": "[1, 3, H, W], RGB", "shape": [1, 3, height, width], "type": "float32"},
        "output": {
            "name": OUTPUT,
            "shape": [1, task.num_classes, height, width],
            "probabilities": "softmax over axis 1",
        },
        "preprocessing": {
            "resize": "so that the image fits; the rest is padded with zeros right and below, after the normalization",
            "scale": "(value / 255 - mean) / std",
            "mean": list(pixels.mean),
            "std": list(pixels.std),
        },
        "class_names": list(task.class_names),
        "files": {
            "onnx": {"file": path.name, "bytes": path.stat().st_size, "max_relative_difference": difference},
        },
    }
    text = json.dumps(description, indent=1) + "\n"
    write_atomically(folder / f"{name}.json", lambda temporary: temporary.write_text(text))
    return description


@torch.inference_mode()
def _largest_difference(model: torch.nn.Module, path: Path, shape: tuple[int, ...]) -> float:
    """The largest difference of the logits for random images, as a fraction of the largest absolute logit."""
    network, generator = OnnxNetwork(path, torch.get_num_threads()), torch.Generator().manual_seed(1)
    largest = 0.0
    for _ in range(NUM_COMPARED):
        x = torch.randn(shape, generator=generator)
        expected = model(x).double()
        difference = (torch.from_numpy(network(x.numpy())).double() - expected).abs().max()
        largest = max(largest, float(difference / expected.abs().max().clamp(min=1e-30)))
    return largest
