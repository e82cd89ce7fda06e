"""Networks in folders with the layout of the Hugging Face hub: config.json, model.safetensors and README.md.

>>> from pretrained import from_pretrained
>>> model = from_pretrained("shared/glore_motion")  # doctest: +SKIP

`inference.save_pretrained` writes such a folder; `inference.load_trained` reads it with its preprocessing. Files stay
where they are, and nothing is unpickled. Only a name that is not a folder is looked up on the hub.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field

from models import create_model, load_pretrained, load_weights
from settings import Settings, SettingsError, parse_settings
from weight_reader import IN_FOLDER

if TYPE_CHECKING:
    from torch import nn

CONFIG, WEIGHTS, CARD = "config.json", IN_FOLDER, "README.md"
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


class PretrainedConfig(Settings):
    """The contents of config.json. Keys added by other tools are ignored."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="ignore", frozen=True)

    architecture: str = Field(description="a name from models.list_models()")
    num_classes: int = Field(ge=0, description="number of classes; 0: the network returns its pooled features")
    model_args: dict[str, Any] = Field({}, description="further arguments of the network's builder")
    per_frame: bool = Field(False, description="an image network that sees clips frame by frame")
    input_shape: tuple[int | None, ...] | None = Field(
        None, description="[3, H, W] for images, [3, T, H, W] for clips; T is null for any number of frames"
    )
    mean: tuple[float, ...] | None = Field(None, description="mean of red, green and blue, from 0 to 1")
    std: tuple[float, ...] | None = Field(None, description="their standard deviation")
    task: str | None = Field(None, description="the task that the network was trained for")
    class_names: tuple[str, ...] | None = Field(None, description="a name for each class")


def from_pretrained(
    source: str | Path, num_classes: int | None = None, *, revision: str | None = None, **options: Any
) -> nn.Module:
    """The network in a folder, on the CPU and in eval mode: a `models.Model`.

    Args:
        source: the folder, or the name of a model on the Hugging Face hub, such as "user/name".
        num_classes: put a new, untrained classifier with this many classes on top; 0: return the pooled features. None:
            keep the folder's classifier.
        revision: branch, tag or commit of a model on the hub; None: its main branch.
        options: arguments of the network's builder that differ from those in config.json, such as `dropout=0.5`.

    Raises:
        SettingsError: there is no such folder or model, it cannot be downloaded, or config.json or an argument is
            invalid.
        WeightsError: the weights are missing, damaged, or do not fit the network.
    """
    folder = find_folder(source, revision)
    config = read_config(folder)
    own_classes = num_classes in (None, config.num_classes)
    try:
        model = create_model(
            config.architecture, config.num_classes if own_classes else num_classes, **config.model_args | options
        )
    except (TypeError, ValueError) as error:
        blamed = folder / CONFIG if own_classes and not options else folder  # the arguments may be wrong, too
        raise SettingsError(f"{blamed}: {error}") from error
    if config.per_frame:
        from backbones import PerFrame  # imports torch

        model = PerFrame(model)
    (load_weights if own_classes else load_pretrained)(model, folder / WEIGHTS)
    return model.eval()


def read_config(folder: str | Path) -> PretrainedConfig:
    """Reads config.json. Raises SettingsError if it is missing or invalid."""
    path = Path(folder, CONFIG)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{folder} has no {CONFIG}; inference.save_pretrained writes such folders") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path} must contain an object, got {type(values).__name__}")
    return parse_settings(PretrainedConfig, values, str(path))


def find_folder(source: str | Path, revision: str | None = None) -> Path:
    """The folder `source`, or where the model of this name on the Hugging Face hub was downloaded to.

    Raises SettingsError if there is neither.
    """
    if Path(source).is_dir():
        return Path(source)
    if Path(source).exists() or not _HUB_NAME.fullmatch(str(source)):
        raise SettingsError(f"{source} is not a folder with {CONFIG} and {WEIGHTS}, nor a name such as user/name")
    missing = f"there is no folder {source}, and no such model could be downloaded"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise SettingsError(f"{missing}: this needs huggingface_hub (pip install huggingface_hub)") from None
    try:
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=[CONFIG, WEIGHTS, CARD]))
    except (HfHubHTTPError, OSError, ValueError) as error:  # no connection, no such model, no access, no space
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SettingsError(f"{missing}: {reason}") from error


def check_folder(folder: str | Path, overwrite: bool = False) -> Path:
    """Creates `folder` if needed. Raises SettingsError if it cannot be written, or already has a model."""
    folder = Path(folder)
    present = [name for name in (CONFIG, WEIGHTS, CARD) if (folder / name).exists()]
    if present and not overwrite:
        raise SettingsError(f"{folder} already has {present[0]}; choose another folder, or overwrite it (--overwrite)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise SettingsError(f"cannot write to {folder}: {error.strerror}; choose another folder") from error


def write_pretrained(
    folder: Path, model: nn.Module, config: PretrainedConfig, card: str, facts: Mapping[str, str]
) -> None:
    """Writes the three files; `facts` are the metadata of the weights.

    Raises CheckpointError if the disk is full or read-only.
    """
    import safetensors.torch

    from engine.checkpoint import write_atomically

    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"format": "pt", **facts}
    values = config.model_dump(mode="json", exclude_none=True)
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / WEIGHTS, lambda path: safetensors.torch.save_file(weights, path, metadata))
    write_atomically(folder / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
    write_atomically(folder / CARD, lambda path: path.write_text(card, encoding="utf-8"))
