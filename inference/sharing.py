"""Sharing a trained network: a folder in the layout of the Hugging Face hub, with a model card filled from its run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from backbones import PerFrame
from backbones.library_network import shape_for
from engine.checkpoint import read_fact
from engine.json_io import to_json
from inference.model_card import ModelCard, Score
from inference.trained import TrainedNetwork, load_trained
from models import GRAPH_MODELS, create_model, model_info
from pretrained import CONFIG, WEIGHTS, PretrainedConfig, check_folder, write_pretrained
from settings import SettingsError
from tasks.classification import Classification, classifies_pictures
from weights import adapt, compare

if TYPE_CHECKING:
    from engine.task import Task

log = logging.getLogger(__name__)


def save_pretrained(
    source: nn.Module | TrainedNetwork | str | Path | None,
    folder: str | Path,
    *,
    license: str = "unknown",
    overwrite: bool = False,
    average: bool = False,
) -> Path:
    """Writes config.json, model.safetensors and README.md, a model card, to `folder`, and returns it.

    Args:
        source: a network for images or clips of `models.create_model`, with options that JSON can hold, or `PerFrame`
            of it; or a trained network: what `load_trained` returns or takes.
        folder: where to write; created if missing. Its name is the title of the card.
        license: the license of the weights, as the hub abbreviates it: "mit", "cc-by-4.0", ...
        overwrite: replace the three files if they exist.
        average: use the averaged weights if the file has both.

    Absolute paths in the recipe are shortened to their last part: they are meaningless on another machine, and reveal
    more than intended about this one.

    Raises:
        SettingsError: the folder already has a model or cannot be written, or `source` cannot be shared.
        WeightsError: the weights are damaged.
        CheckpointError: the disk is full.
    """
    folder = check_folder(folder, overwrite)
    if not isinstance(source, nn.Module | TrainedNetwork):
        source = load_trained(source, device="cpu", average=average)
    if isinstance(source, nn.Module):
        source = getattr(source, "_orig_mod", source)  # compiled
        facts: dict[str, str] = {}
        config = _config(source)
        card = ModelCard(folder.resolve().name, config, license)
    else:
        task, model, weights = source
        if not classifies_pictures(type(task)):
            raise SettingsError(
                f"only classification networks are written with a card, and this one is for {task.settings.task}; "
                f"{weights} carries its recipe and class names, and can be shared as it is"
            )
        facts = _facts(weights, task)
        config = _config(model, task)
        card = _card_of_run(folder.resolve().name, config, license, task, weights, facts)
        source = model
        if not card.scores:
            log.warning("no report on %s: the card has no scores; tools/evaluate.py writes a report", weights)
    write_pretrained(folder, source, config, card.text(), facts)
    log.info("%s: %s", folder / WEIGHTS, card.headline())
    return folder


def _config(model: nn.Module, task: Classification | None = None) -> PretrainedConfig:
    per_frame = isinstance(model, PerFrame)
    network = model.network if per_frame else model
    name, options = _blueprint(network)
    if task is None:
        shape = shape_for(model_info(name).input_shape, options)
        values: dict[str, Any] = {"input_shape": (shape[0], None, *shape[1:]) if per_frame else shape}
    else:
        mean, std = task.normalization
        values = {"input_shape": task.validation_shape()[1], "mean": mean, "std": std}
        values |= {"task": task.settings.task, "class_names": tuple(task.class_names)}
    return PretrainedConfig(
        architecture=name, num_classes=network.num_classes, model_args=options, per_frame=per_frame, **values
    )


def _blueprint(network: nn.Module) -> tuple[str, dict[str, Any]]:
    """The name and options that build the network again, options as config.json gives them back.

    Raises SettingsError if nothing does.
    """
    kind, name = type(network).__name__, getattr(network, "model_name", None)
    if name is None:
        if isinstance(getattr(network, "module", None), nn.Module):
            raise SettingsError(f"{kind} wraps a network; pass its .module")
        raise SettingsError(f"a {kind} that models.create_model did not build cannot be built again by its name")
    if name in GRAPH_MODELS:
        raise SettingsError(
            f"{name} is for graphs, and only networks for images and clips are shared this way; the weight file of a "
            "run carries its recipe, and can be shared as it is"
        )
    options: dict[str, Any] = {}
    for option, value in getattr(network, "model_options", {}).items():
        try:
            options[option] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            raise SettingsError(
                f"{name}: the option {option} is {value!r}, which {CONFIG} cannot hold; build the network without it"
            ) from None
    if not _builds(name, options, network):
        raise SettingsError(
            f"models.create_model builds another network as {name} than this {kind}, which is a backbone of "
            "create_pyramid or was changed; share one as create_model builds it"
        )
    return name, options


def _builds(name: str, options: Mapping[str, Any], network: nn.Module) -> bool:
    """Whether `create_model` builds such a network, which the weights of this one fit."""
    try:
        with torch.device("meta"):
            twin = create_model(name, getattr(network, "num_classes", None), **options)
    except (TypeError, ValueError):
        return False
    return type(twin) is type(network) and not compare(twin, adapt(twin, "", network.state_dict())).misfits()


def _facts(weights: Path, task: Task) -> dict[str, str]:
    """The metadata of the shared weights: the file's, and the recipe as used here."""
    found = {name: read_fact(weights, name) for name in ("step", "score", "fingerprint")}
    kept = {name: json.dumps(value) for name, value in found.items() if value is not None}
    return kept | {"recipe": to_json(_without_folders(task.portable_recipe()))}


def _without_folders(value: Any) -> Any:
    """The same recipe with absolute paths shortened to their last part."""
    if isinstance(value, Mapping):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(inner) for inner in value]
    return PurePath(value).name if isinstance(value, str) and PurePath(value).is_absolute() else value


def _card_of_run(
    name: str, config: PretrainedConfig, license: str, task: Classification, weights: Path, facts: dict[str, str]
) -> ModelCard:
    run = weights.parent.parent if weights.parent.name == "checkpoints" else weights.parent
    fingerprint = json.loads(facts.get("fingerprint", "{}"))
    counts = fingerprint.get("training", {}).get(f"training {task.item}s")
    return ModelCard(
        name,
        config,
        license,
        item=task.item,
        recipe=json.loads(facts["recipe"]),
        num_training_items=None if counts is None else counts[0],
        step=facts.get("step"),
        scores=_scores(run, task, weights),
        environment=_environment(run),
    )


def _scores(run: Path, task: Classification, weights: Path) -> list[Score]:
    """The run's reports on these weights (not on earlier ones in the same file), by protocol."""
    metrics = [(key, title) for key, title in task.curves.items() if key != "loss"]
    found = []
    for path in sorted((run / "evaluations").glob("*/summary.json")):
        summary = _read_json(path)
        is_older = path.stat().st_mtime < weights.stat().st_mtime
        if not isinstance(summary, dict) or is_older or Path(str(summary.get("weights"))).name != weights.name:
            continue
        numbers = {title: summary[key] for key, title in metrics if isinstance(summary.get(key), int | float)}
        if numbers:
            read, listed = (summary.get(f"{task.item}s_{what}") for what in ("read", "listed"))
            source = _without_folders(str(summary.get("list", task.settings.data.val)))
            found.append(Score(path.parent.name, source, numbers, f"{read} of {listed} {task.item}s"))
    return found


def _environment(run: Path) -> dict[str, Any]:
    """The last start of the run, from environment.json; {} if there is none."""
    starts = _read_json(run / "environment.json")
    return starts[-1] if isinstance(starts, list) and starts and isinstance(starts[-1], dict) else {}


def _read_json(path: Path) -> Any:
    """The contents of a file of the run; None if it is missing or damaged, which must not prevent the card."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
