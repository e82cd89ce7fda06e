"""Weight files: read without running their code, whatever the state dict in them is wrapped in."""

from __future__ import annotations

import argparse
import logging
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from settings import UserError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

STATE_DICTS = ("state_dict", "model", "module", "model_state_dict")
AVERAGES = ("model_ema", "state_dict_ema", "ema")
"""The keys under which training scripts store the weights, and their moving average."""

IN_FOLDER = "model.safetensors"
"""The weights in a folder of `inference.save_pretrained`."""

COMPILED = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What wrappers of layers and networks insert anywhere in the names of entries."""


class WeightsError(UserError, ValueError):
    """A weight file is missing, broken, or does not fit the model; the message says which, why, and what to try."""

    on_every_rank = True


def read(path: str | Path, average: bool = False) -> dict[str, torch.Tensor]:
    """The state dict in a file, on the CPU, whatever it is wrapped in; `average`: the one under one of `AVERAGES`."""
    import torch

    path = file_at(path)
    content = _read_file(path)
    if average and _holds(content, AVERAGES) is None:
        raise WeightsError(
            f"{path}: has no averaged weights under {', '.join(AVERAGES[:-1])} or {AVERAGES[-1]}; use the plain ones, "
            "or last.pt of a run with train.ema_decay"
        )
    if not average and _holds(content, STATE_DICTS) is not None and _holds(content, AVERAGES) is not None:
        log.info(
            "%s: also has an average of the weights (%s), which is not used; to use it: --average, "
            "model.pretrained_average=true, or average=True in Python",
            *(path, next(key for key in AVERAGES if isinstance(content.get(key), Mapping))),
        )
    keys = AVERAGES if average else STATE_DICTS + AVERAGES
    for _ in range(3):  # a file may nest them, but a damaged one may also contain itself
        if (inner := _holds(content, keys)) is not None:
            content, keys = inner, STATE_DICTS
    entries = content if isinstance(content, Mapping) else {}
    entries = {name: _as_tensor(value) for name, value in entries.items()}
    if not any(isinstance(value, torch.Tensor) for value in entries.values()):
        raise WeightsError(
            f"{path}: no state dict, neither by itself nor under {', '.join(STATE_DICTS + AVERAGES[:-1])} or "
            f"{AVERAGES[-1]}; the file has {_summary(content)}"
        )
    for name, value in entries.items():
        if not isinstance(value, torch.Tensor) or not isinstance(name, str):
            found = f"the entry {name!r} of type {type(value).__name__}"
            raise WeightsError(f"{path}: contains {found}; expected a state dict, which maps names to tensors")
    weights = {COMPILED.sub("", name): tensor for name, tensor in entries.items()}
    if len(weights) < len(entries):
        raise WeightsError(f"{path}: has entries twice, with and without _orig_mod. or the like; save only one of them")
    return weights


def _as_tensor(value: Any) -> Any:
    """A NumPy array of numbers as a tensor; anything else as it is."""
    import numpy as np
    import torch

    is_plain = isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.itemsize <= 8
    return torch.as_tensor(value) if is_plain else value


def file_at(path: str | Path) -> Path:
    """The weight file: `path`, or the one in the folder `path` that `inference.save_pretrained` wrote."""
    inner = Path(path, IN_FOLDER)
    return inner if inner.is_file() else Path(path)


def _read_file(path: Path) -> Any:
    import safetensors.torch
    import torch

    if path.is_dir():
        raise WeightsError(f"{path}: is a folder; name the weight file in it")
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file")
    if path.suffix == ".json":
        raise WeightsError(f"{path}: has no weights; if it is the index of several files, merge them into one")
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(_plain_types()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle raises whatever its bytes happen to mean
        if foreign := re.search(r"(?:Unsupported (?:global: GLOBAL|class) |but got <class ')([^\s'>]+)", str(error)):
            return _without_foreign(path, foreign[1])
        if other := _other_format(path):
            raise WeightsError(f"{path}: is {other}") from error
        size = f"{path.stat().st_size:,} bytes"
        raise WeightsError(
            f"{path}: not a readable weight file, {size} ({_reason(error)}); it may be cut short: download it again"
        ) from error


def _other_format(path: Path) -> str | None:
    """What a file is, and what to do with it, if it is one of GloRe's image networks; None: something else."""
    from glore3d.mxnet_files import MAGIC

    converts = "tools/read_mxnet.py converts those of GloRe's image networks"
    if tarfile.is_tarfile(path):
        return f"a tar archive: unpack it, and name the weight file in it; of .params files, {converts}"
    with open(path, "rb") as file:
        if file.read(8) == MAGIC.to_bytes(8, "little"):
            return f"a parameter file of MXNet: {converts}"
    return None


def _without_foreign(path: Path, kind: str) -> Mapping:
    """The dict in a file that also holds objects of other classes, such as `kind`, which are left out."""
    import torch

    import inert_pickle

    try:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=inert_pickle)
    except Exception:  # damaged objects may raise anything
        content = None
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: contains {kind}, whose code is not run; save only its state dict")
    return content


def _plain_types() -> list[Any]:
    """Types that scripts store with the weights and that cannot run code: arguments, and NumPy's numbers and arrays."""
    import numpy as np

    cores = "core", "_core"
    functions = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    kinds = [type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?US"]
    return [
        argparse.Namespace,
        np.dtype,
        *kinds,
        np.ndarray,
        *((function, f"numpy.{core}.multiarray.{function.__name__}") for core in cores for function in functions),
    ]


def without_colors(text: str) -> str:
    """The text without a terminal's escape sequences for colors, which torch puts into its messages."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _reason(error: Exception) -> str:
    """Why a file cannot be read, on one line, without torch's advice to read it unprotected."""
    text = without_colors(str(error))
    stated = re.search(r"WeightsUnpickler error: (.+)", text) or re.search(r"(.+)", text)
    return f"{type(error).__name__}: {stated[1].split('. ')[0][:200]}" if stated else type(error).__name__


def _holds(content: Any, keys: tuple[str, ...]) -> Mapping | None:
    """The first dict under one of `keys`; None if there is none."""
    inner = (content.get(key) for key in keys) if isinstance(content, Mapping) else ()
    return next((value for value in inner if isinstance(value, Mapping)), None)


def _summary(content: Any) -> str:
    if isinstance(content, Mapping):
        kinds = {key: f" ({type(value).__name__})" for key, value in content.items() if key in STATE_DICTS}
        keys = [f"{key}{kinds.get(key, '')}" for key in list(content)[:8]]
        return f"the keys {', '.join(keys)}" if content else "nothing"
    return "nothing" if content is None else f"an object of type {type(content).__name__}"


def read_classes(path: str | Path) -> list[int]:
    """The class of another network for each class of a new one: lines of numbers, or a list or tensor in a .pth file.

    Raises:
        WeightsError: there is no such file, or it contains something else.
    """
    path = Path(path)
    is_text = path.suffix in (".txt", ".csv")
    try:
        content = path.read_text(encoding="utf-8-sig").split() if is_text else _read_file(path)
        if is_text:
            numbers = [int(number) for number in content]
        else:
            content = content.tolist() if hasattr(content, "tolist") else content
            if not isinstance(content, list | tuple) or any(type(number) is not int for number in content):
                raise ValueError(f"its {type(content).__name__} is not a list of whole numbers")
            numbers = list(content)
    except WeightsError:
        raise
    except (OSError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: expected a class index on each line, or a list of them in a .pth file: {error}"
        ) from error
    if not numbers:
        raise WeightsError(f"{path}: contains no class indices")
    return numbers
