"""Skips a step with a NaN or infinite loss or gradient and leaves no trace of it (train.non_finite: skip)."""

import logging

import torch
from torch import nn

from engine.non_finite import ADVICE, Agreement, NotFinite, StepRecord
from engine.progress import Meter
from engine.train_state import Progress

log = logging.getLogger(__name__)

MOST_IN_A_ROW = 20


class SkippedSteps:
    """Undoes a step before its update, by restoring the network's buffers (batch norm statistics) and the logged sums.

    Call `remember` before each step. Afterwards call `skip`, or reset `progress.num_skipped_in_a_row` if the step was
    finite.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, meter: Meter):
        self._model, self._optimizer, self._scaler, self._meter = model, optimizer, scaler, meter

    def remember(self) -> None:
        self._buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        self._sums = self._meter.sums()

    def skip(self, record: StepRecord, agreement: Agreement, progress: Progress, is_main: bool) -> None:
        """Undoes the step of `record`. Raises NotFinite after too many in a row. Every rank must call it."""
        with torch.no_grad():
            for name, buffer in self._model.named_buffers():
                buffer.copy_(self._buffers[name])
        self._meter.set_sums(self._sums)
        if self._scaler.is_enabled():  # lower the scale, as after an overflow
            self._scaler.update(self._scaler.get_scale() * self._scaler.get_backoff_factor())
        self._optimizer.zero_grad(set_to_none=True)
        progress.num_skipped += 1
        progress.num_skipped_in_a_row += 1
        problem = agreement.describe(record)
        if progress.num_skipped_in_a_row == MOST_IN_A_ROW:
            raise NotFinite(f"{problem}, and {MOST_IN_A_ROW} steps in a row were skipped. {ADVICE}")
        if is_main:
            log.warning("%s; step skipped (%d so far)", problem, progress.num_skipped)
