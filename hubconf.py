"""Every model for `torch.hub`, by its name in models.py, from a clone or from the repository itself.

    torch.hub.load("path/to/clone", "glore_resnet50_3d", source="local", num_classes=400, weights="FILE")

Further arguments are options of the model's builder; `weights` is a file of ours or one that the authors released.
"""

from collections.abc import Callable as _Callable
from typing import Any as _Any

import models as _models

dependencies = ["torch", "torchvision", "torch_geometric", "timm", "einops", "safetensors"]


def _entry(name: str) -> _Callable[..., _Any]:
    def entry(num_classes: int | None = None, weights: str | None = None, **options):
        model = _models.create_model(name, num_classes, **options)
        if weights is not None:
            _models.load_weights(model, weights)
        return model

    known = _models.MODELS[name]
    shape = " x ".join(map(str, known.input_shape))
    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"{known.paper}.\n\nInput {shape}, {known.num_parameters / 1e6:.1f} M parameters."
    return entry


globals().update({name: _entry(name) for name in _models.list_models()})
