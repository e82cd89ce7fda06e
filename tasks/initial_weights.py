"""Weights that training starts from: the file that a recipe names in `model.pretrained`."""

import logging

from torch import nn

from models import WeightsError, load_pretrained

log = logging.getLogger(__name__)


def load_initial_weights(model: nn.Module, path: str | None) -> None:
    """Loads the file of `model.pretrained`, if the recipe names one, and logs what came of its entries."""
    if path is not None:
        try:
            log.info("%s", load_pretrained(model, path))
        except WeightsError as error:
            raise WeightsError(f"model.pretrained: {error}") from error
