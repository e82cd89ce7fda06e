"""From a file to its explanation: the network's view, its prediction, and the maps."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from datasets.file_list import FileError
from evaluators.confusion_plot import plot_names
from explain.grad_cam import GradCam, grad_cam
from explain.layers import map_layers
from explain.sections import DEFAULT_OPTIONS, Options, cam_section, own_sections
from explain.sheet import Explanation
from settings import SettingsError, did_you_mean
from tasks.classification import Classification
from tasks.sample_pictures import to_frames


def read_view(task: Classification, path: str | Path, number: int = 1) -> torch.Tensor:
    """The network's input [1, 3, ..., S, S] for view `number`, from 1, of a file, as in evaluation.

    Raises:
        SettingsError: there is no such file, or not that many views.
        FileError: the file cannot be read.
    """
    try:
        files = task.find_inputs([path])
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from error
    if len(files) != 1:
        raise SettingsError(f"{path} has {len(files)} {task.item}s; name one of them")
    dataset = task.eval_views(files)
    if not 1 <= number <= dataset.num_views:
        raise SettingsError(
            f"--view {number}: the recipe has {dataset.num_views} view(s) of each {task.item}; set "
            "evaluation.num_clips for more"
        )
    sample = dataset[0]
    if "failure" in sample:
        raise FileError(sample["failure"]["path"], sample["failure"]["reason"])
    return task.network_input(sample["views"][number - 1 : number].to(task.ranks.device))


def label_of(task: Classification, class_name: str | None) -> int | None:
    """The label of a class by its name; None for None. Raises SettingsError with the nearest name."""
    if class_name is None:
        return None
    if class_name not in task.class_names:
        raise SettingsError(
            f"--class: no class is called {class_name!r}{did_you_mean(class_name, task.class_names)} (the network has "
            f"{len(task.class_names)})"
        )
    return task.class_names.index(class_name)


def explain(
    task: Classification,
    model: nn.Module,
    x: torch.Tensor,
    name: str = "",
    label: int | None = None,
    layer: str | None = None,
    options: Options = DEFAULT_OPTIONS,
) -> Explanation:
    """The full explanation of one view.

    Args:
        task, model: as returned by `inference.trained.load_trained`.
        x: the view, from `read_view`.
        name: what to call it in the title.
        label: the class of Grad-CAM. None: the predicted one.
        layer: the layer of Grad-CAM. None: the last map.
        options: which of the network's own maps to show.

    Raises SettingsError for a layer, stage or patch that does not exist.
    """
    cam = grad_cam(model, x, label, layer, task.multi_label)
    predicted = int(cam.probabilities.argmax())
    title = f"{name}: {getattr(model, 'model_name', type(model).__name__)} predicts "
    drawn = plot_names(task.class_names)
    sections = [cam_section(cam, drawn[cam.label], cam.label == predicted), *own_sections(model, x, cam, options)]
    frames = to_frames(task, x[0]).numpy()
    return Explanation(title + _guesses(cam, drawn), frames, sections, title + _guesses(cam, task.class_names))


def _guesses(cam: GradCam, names: Sequence[str]) -> str:
    """The predicted class and, if it is another one, that of the map."""
    predicted = int(cam.probabilities.argmax())
    text = f"{names[predicted]} ({100 * cam.probabilities[predicted]:.1f} %)"
    if cam.label != predicted:
        text += f"; {names[cam.label]}: {100 * cam.probabilities[cam.label]:.1f} %"
    return text


def describe_layers(model: nn.Module, x: torch.Tensor) -> str:
    """A line for each layer that Grad-CAM can use: its name and the shape of its map, [C, T, h, w]."""
    shapes = map_layers(model, x)
    width = max(map(len, shapes), default=0)
    return "\n".join(f"{name:{width}}  {' x '.join(map(str, shape))}" for name, shape in shapes.items())
