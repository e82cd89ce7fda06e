"""Every model for `torch.hub`, by its name in models.py, from a clone or from the repository itself.

    torch.hub.load("path/to/clone", "glore_resnet50_3d", source="local", num_classes=400, weights="FILE")
    torch.hub.load("path/to/clone", "from_pretrained", "FOLDER", source="local")
    torch.hub.load("path/to/clone", "segmentor", "hornet_tiny_gf", source="local", num_classes=150, weights="FILE")
    torch.hub.load("path/to/clone", "detector", "eurnet_tiny", source="local", num_classes=80, head="mask_rcnn")

Further arguments are options of the model's builder. `weights` is a file of ours or one that the authors released.
FOLDER was written by `inference.save_pretrained`. The authors' own names for models work, too.
"""

import sys as _sys
from collections.abc import Callable as _Callable
from pathlib import Path as _Path
from typing import Any as _Any

_OWN_NAMES = ("settings", "backbones", "dense", "models", "libraries", "model_protocol", "weights", "weight_reader",
              "inert_pickle", "pretrained", "segmentors", "detectors")  # fmt: skip
"""Modules of this folder that networks need, and whose names another project may have given to its own."""


def _check_own_names() -> None:
    """Raises ImportError if the caller has imported another module by one of these names: Python knows only one."""
    folder = _Path(__file__).resolve().parent
    for name in _OWN_NAMES:
        module = _sys.modules.get(name)
        places = [file] if (file := getattr(module, "__file__", None)) else [*getattr(module, "__path__", [])]
        if places and not any(_Path(place).resolve().is_relative_to(folder) for place in places):
            raise ImportError(
                f"{places[0]} is already imported as {name!r}, a name that {folder} needs for a module of its own: "
                f"rename yours, or load the network before you import it, in a process that has no other {name!r}"
            )


_check_own_names()

import models as _models  # noqa: E402
from pretrained import from_pretrained as from_pretrained  # noqa: E402

dependencies = ["torch", "torchvision", "torch_geometric", "timm", "einops", "safetensors", "pydantic", "yaml"]


def _entry(name: str) -> _Callable[..., _Any]:
    def entry(num_classes: int | None = None, weights: str | None = None, **options):
        if options.pop("pretrained", None):
            raise ValueError(f"{name} has no weights to download: use weights=FILE instead of pretrained")
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
        num_classes: number of classes; None: as many as in the paper, 0: it returns its pooled features.
        weights: a weight file to load, or a folder of `inference.save_pretrained`; None: fresh weights.
        options: further arguments of the model's builder.
    """
    return entry


def segmentor(backbone: str, num_classes: int, head: str = "upernet", weights: str | None = None, **options: _Any):
    """A network for semantic segmentation: images [B, 3, H, W], normalized, to logits [B, num_classes, H, W].

    Args:
        backbone: a name for `models.create_pyramid`.
        num_classes: number of classes.
        head: a name from `segmentors.HEADS`.
        weights: a file of its weights to load; None: fresh weights. A file of the backbone: `pretrained=FILE`.
        options: further arguments of `segmentors.create_segmentor`.
    """
    from segmentors import create_segmentor  # imports torchvision, which takes seconds

    return _loaded(create_segmentor(backbone, num_classes, head, weights=_backbone_file(options), **options), weights)


def detector(backbone: str, num_classes: int, head: str = "mask_rcnn", weights: str | None = None, **options: _Any):
    """A network for detection: images [B, 3, H, W], normalized, to the objects in each (`dense.structures.Detections`).

    Args:
        backbone: a name for `models.create_pyramid`.
        num_classes: number of classes, without the background.
        head: a name from `detectors.HEADS`.
        weights: a file of its weights to load; None: fresh weights. A file of the backbone: `pretrained=FILE`.
        options: further arguments of `detectors.create_detector`.
    """
    from detectors import create_detector

    return _loaded(create_detector(backbone, num_classes, head, weights=_backbone_file(options), **options), weights)


def _backbone_file(options: dict[str, _Any]) -> str | None:
    """Removes `pretrained` from the options and returns it, a file to start the backbone from."""
    pretrained = options.pop("pretrained", None)
    if pretrained is True:
        raise ValueError(
            "pretrained=True: there are no weights to download; use pretrained=FILE for a file of the backbone, or "
            "weights=FILE for one of the whole network"
        )
    return pretrained or None


def _loaded(model: _Any, weights: str | None) -> _Any:
    if weights is not None:
        _models.load_weights(model, weights)
    return model


globals().update({name: _entry(name) for name in (*_models.list_models(), *_models.AUTHORS_NAMES)})
