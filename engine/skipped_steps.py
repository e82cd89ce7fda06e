"""Skipping a step whose loss or gradient is NaN or infinite, as if it had never been (train.non_finite: skip)."""

import logging

import torch
from torch import nn

from engine.non_finite import ADVICE, Agreement, NotFinite, StepRecord
from engine.progress import Meter
from engine.train_state import Progress

log = logging.getLogger(__name__)

MOST_IN_A_ROW = 20


class SkippedSteps:
    """What a step changes before its update, kept so that the step can be undone: buffers and logged sums.

    Buffers are the network's (batch norm's statistics, for example). Use `remember` before each step, then `skip`, or
    `progress.num_skipped_in_a_row = 0` where the step was good.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, meter: Meter):
        self._model, self._optimizer, self._scaler, self._meter = model, optimizer, scaler, meter

    def remember(self) -> None:
        self._buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        self._sums = self._meter.sums()

    def skip(self, record: StepRecord, agreement: Agreement, progress: Progress, is_main: bool) -> None:
        """Undoes the step of `record`. Raises NotFinite after many in a row; every rank must call it."""
        with torch.no_grad():
            for name, buffer in self._model.named_buffers():
                buffer.copy_(self._buffers[name])
        self._meter.set_sums(self._sums)
        if self._scaler.is_enabled():  # as after an overflow
            self._scaler.update(self._scaler.get_scale() * self._scaler.get_backoff_factor())
        self._optimizer.zero_grad(set_to_none=True)
        progress.num_skipped += 1
        progress.num_skipped_in_a_row += 1
        found = agreement.describe(record)
        if progress.num_skipped_in_a_row == MOST_IN_A_ROW:
            raise NotFinite(f"{found}, and {MOST_IN_A_ROW} steps in a row were skipped. {ADVICE}")
        if is_main:
            log.warning("%s; step skipped (%d so far)", found, progress.num_skipped)
