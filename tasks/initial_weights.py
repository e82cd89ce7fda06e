"""Weights that training starts from: the file that a recipe names in `model.pretrained`."""

import logging

from torch import nn

from models import WeightsError, load_pretrained
from weights import read_classes

log = logging.getLogger(__name__)


def load_initial_weights(model: nn.Module, path: str | None, table: str | None = None) -> None:
    """Loads the file of `model.pretrained`, if the recipe names one, and logs what came of its entries.

    `table` is the file of `model.pretrained_classes`, if the recipe names one.
    """
    if path is None:
        return
    try:
        classes = None if table is None else read_classes(table)
    except WeightsError as error:
        raise WeightsError(f"model.pretrained_classes: {error}") from error
    try:
        log.info("%s", load_pretrained(model, path, classes))
    except WeightsError as error:
        raise WeightsError(f"model.pretrained: {error}") from error
