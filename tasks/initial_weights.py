"""Initial weights of training: the file that a recipe names in `model.pretrained`."""

import logging
from collections.abc import Mapping

from torch import nn

from engine.fingerprint import Contents, warn_of_start_from_other_outputs
from models import WeightsError, load_pretrained
from weight_reader import file_at, read_classes

log = logging.getLogger(__name__)


def load_initial_weights(
    model: nn.Module,
    path: str | None,
    outputs: Mapping[str, Contents],
    table: str | None = None,
    average: bool = False,
) -> None:
    """Loads the file of `model.pretrained`, if the recipe names one, and logs which entries were loaded.

    `outputs` is what the task's network distinguishes; `table` is the file of `model.pretrained_classes`, if the recipe
    names one; `average` takes the moving average of the file's weights.
    """
    if path is None:
        return
    try:
        classes = None if table is None else read_classes(table)
    except WeightsError as error:
        raise WeightsError(f"model.pretrained_classes: {error}") from error
    try:
        report = load_pretrained(model, path, classes, average)
    except WeightsError as error:
        raise WeightsError(f"model.pretrained: {error}") from error
    log.info("%s", report)
    if classes is None and not report.mismatched:
        warn_of_start_from_other_outputs(file_at(path), outputs)
