"""Every model for `torch.hub`, by its name in models.py, from a clone or from the repository itself.

    torch.hub.load("path/to/clone", "glore_resnet50_3d", source="local", num_classes=400, weights="FILE")
    torch.hub.load("path/to/clone", "from_pretrained", "FOLDER", source="local")

Further arguments are options of the model's builder. `weights` is a file of ours or one that the authors released. A
folder is one of `inference.save_pretrained`. The authors' own names for models work, too.
"""

from collections.abc import Callable as _Callable
from typing import Any as _Any

import models as _models
from pretrained import from_pretrained as from_pretrained

dependencies = ["torch", "torchvision", "torch_geometric", "timm", "einops", "safetensors", "pydantic", "yaml"]


def _entry(name: str) -> _Callable[..., _Any]:
    def entry(num_classes: int | None = None, weights: str | None = None, **options):
        if "pretrained" in options:
            raise ValueError(
                f"{name} has no weights to download: give a file of them as weights=FILE, which replaces pretrained"
            )
        model = _models.create_model(name, num_classes, **options)
        if weights is not None:
            _models.load_weights(model, weights)
        return model

    known = _models.MODELS[_models.AUTHORS_NAMES.get(name, name)]
    shape = " x ".join(map(str, known.input_shape))
    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"""{known.paper}.

    Input {shape}, {known.num_parameters / 1e6:.1f} M parameters. {known.protocol}.

    Args:
        num_classes: classes that it tells apart; None: as many as in the paper, 0: it returns its pooled features.
        weights: a file of weights to load; None: fresh weights.
        options: further arguments of the model's builder.
    """
    return entry


globals().update({name: _entry(name) for name in (*_models.list_models(), *_models.AUTHORS_NAMES)})
