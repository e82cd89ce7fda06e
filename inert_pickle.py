"""Reads pickled files of weights whose authors also pickled objects of their own, without running any of their code.

Training scripts save their settings beside the weights: a DictConfig of hydra's, paths, enumerations. `torch.load` with
`weights_only=True` refuses such a file as a whole. Here each object of an unknown class becomes an empty one.

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
"""What tensors in dicts are made of; `torch.load` itself looks up the storages. Nothing else is ever looked up."""


class Inert:
    """Stands for any class, function or object of a pickled file. It ignores whatever the file does with it.

    What the file calls a class is the name of a class of its own here, for messages.
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
    """Unpickles what tensors in dicts are made of; all else is `Inert`."""

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name)) or type(f"{module}.{name}", (Inert,), {})


def load(file: Any, **options: Any) -> Any:
    """As `pickle.load`, for `torch.load`."""
    return Unpickler(file, **options).load()
