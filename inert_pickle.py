"""Reads pickled weight files that also contain objects of other classes, without running any of their code.

Training scripts save their settings beside the weights: hydra's DictConfig, paths, enumerations. `torch.load` with
`weights_only=True` refuses the whole file. Here each object of an unknown class becomes an empty one.

    torch.load(path, weights_only=False, pickle_module=inert_pickle)
"""

import pickle
from collections import OrderedDict, defaultdict
from typing import Any

import torch

_KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
}
"""The classes needed for tensors in dicts; `torch.load` itself looks up the storages. Nothing else is looked up."""


class Inert:
    """Replaces any class, function or object in a pickled file, and ignores whatever the file does with it.

    Each class in the file becomes a class of the same name here, for messages.
    """

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any):
        pass

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        return Inert()

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, *_: Any) -> None:
        pass

    append = extend = add = __setstate__


class Unpickler(pickle.Unpickler):
    """Unpickles only what tensors in dicts need; all else becomes `Inert`."""

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name)) or type(f"{module}.{name}", (Inert,), {})


def load(file: Any, **options: Any) -> Any:
    """Like `pickle.load`, for `torch.load`."""
    return Unpickler(file, **options).load()
