"""What a program needs to use an exported file: its input, how to make that from a video or image, the class names."""

from typing import Any

import torch

from inference.export.onnx_file import INPUT, OUTPUT
from inference.trained import TrainedNetwork
from tasks.classification import Classification
from tasks.clip_classification import ClipClassification


def describe(trained: TrainedNetwork) -> dict[str, Any]:
    """The input, output, preprocessing and class names of a trained network, as plain types."""
    task = trained.task
    _, shape = task.validation_shape()
    axes = ("3", "T", "H", "W") if len(shape) == 4 else ("3", "H", "W")
    return {
        "model": task.settings.model.name,
        "task": task.settings.task,
        "weights": trained.weights.name,
        "torch": torch.__version__,
        "input": {
            "name": INPUT,
            "layout": f"[B, {', '.join(axes)}], RGB",
            "shape": ["batch", *shape],
            "type": "float32",
        },
        "output": {
            "name": OUTPUT,
            "shape": ["batch", task.num_classes],
            "probabilities": "sigmoid" if task.multi_label else "softmax",
        },
        "protocol": task.protocol,
        "preprocessing": _preprocessing(task),
        "class_names": list(task.class_names),
    }


def _preprocessing(task: Classification) -> dict[str, Any]:
    mean, std = task.normalization
    normalization = {"scale": "(value / 255 - mean) / std", "mean": list(mean), "std": list(std)}
    data = task.settings.data
    if not isinstance(task, ClipClassification):
        view = data.val_view
        return {"size": view.size, "crop_fraction": view.crop_fraction, "interpolation": "bicubic", **normalization}
    return {
        "frames": data.num_frames,
        "sampling": data.sampling,
        "frame_interval": data.frame_interval if data.sampling == "dense" else None,
        "frame_seconds": data.frame_seconds,
        "short_video": data.short_video,
        "num_clips": task.settings.evaluation.num_clips,
        "num_crops": task.settings.evaluation.num_crops,
        "short_side": data.val_view.short_side,
        "size": data.val_view.crop,
        "interpolation": "bilinear, not antialiased",
        **normalization,
    }
