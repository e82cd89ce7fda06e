"""What the ranks agree on after each step: are its numbers finite, and was any of them asked to stop?

Each rank knows only its own losses, and reading a number from a GPU stalls the host. To cost no time, a step's verdict
is copied without waiting, sent with the next step and received with the one after: a run learns of a bad step two steps
late, but before it saves or scores anything that came of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from engine.distributed import Ranks
from settings import UserError

MOST_SHOWN = 64  # samples in a message


class NotFinite(UserError, FloatingPointError):
    """A loss, a gradient or a weight is NaN or infinite; every rank raises the same."""

    on_every_rank = True


@dataclass
class StepRecord:
    """A step as one rank saw it."""

    step: int
    learning_rate: float
    rows: list[list[int]]  # of the training list, of each forward pass; empty where the batches do not say
    is_finite: torch.Tensor  # [passes + 1] bool, on the CPU: the loss of each pass, then the gradient
    copied: torch.Event | None = None  # when `is_finite` is there

    def finite(self) -> list[bool]:
        if self.copied is not None:
            self.copied.synchronize()
        return self.is_finite.tolist()


def record_step(
    step: int, rate: float, rows: list[list[int]], losses: Sequence[torch.Tensor], norm: torch.Tensor | None
) -> StepRecord:
    """A record of `losses` (scalars, one per pass) and the gradient's `norm` (None: not checked), without waiting."""
    numbers = torch.stack([*(loss.detach().float() for loss in losses), *([] if norm is None else [norm.float()])])
    is_finite = numbers.isfinite()
    if not is_finite.is_cuda:
        return StepRecord(step, rate, rows, is_finite)
    on_host = torch.empty(is_finite.shape, dtype=torch.bool, pin_memory=True)
    on_host.copy_(is_finite, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return StepRecord(step, rate, rows, on_host, copied)


class Agreement:
    """The ranks' common verdict, up to two steps late; every rank must make the same calls."""

    def __init__(self, ranks: Ranks, wants_stop: Callable[[], bool]):
        self._ranks, self._wants_stop = ranks, wants_stop
        self._newest: StepRecord | None = None  # not sent yet
        self._sent: StepRecord | None = None
        self._answer: Callable[[], list[bool]] | None = None

    def after_step(self, record: StepRecord) -> bool:
        """Hands in a step -> whether to stop, as of the step before. Raises NotFinite."""
        stop = self._receive()
        self._send(self._newest)
        self._newest = record
        return stop

    def settle(self) -> bool:
        """Waits for the verdict on all steps handed in -> whether to stop. Raises NotFinite."""
        stop = self._receive()
        self._send(self._newest)
        self._newest = None
        return self._receive() or stop

    def is_finite(self, record: StepRecord) -> bool:
        """Waits for the ranks' verdict on `record`, which is not handed in."""
        return not self._ranks.any([not all(record.finite())])[0]

    def _send(self, record: StepRecord | None) -> None:
        is_bad = record is not None and not all(record.finite())
        self._sent, self._answer = record, self._ranks.start_any([self._wants_stop(), is_bad])

    def _receive(self) -> bool:
        if self._answer is None:
            return False
        (stop, is_bad), self._answer = self._answer(), None
        if is_bad:
            raise NotFinite(f"{self.describe(self._sent)}. {ADVICE}")
        return stop

    def describe(self, record: StepRecord) -> str:
        """What is not finite in a step, its samples and its learning rate; every rank must call it."""
        found = self._ranks.broadcast(self._ranks.gather((record.finite(), record.rows)))
        of_losses = [
            rows for finite, passes in found for is_finite, rows in zip(finite, passes, strict=False) if not is_finite
        ]
        what = "the loss" if of_losses else "the gradient"
        rows = [row for of_pass in of_losses or chain(*(passes for _, passes in found)) for row in of_pass]
        shown = ", ".join(map(str, rows[:MOST_SHOWN])) + (", ..." if len(rows) > MOST_SHOWN else "")
        where = f"; {len(rows)} samples, rows of the training list from 0: {shown}" if rows else ""
        return f"{what} of step {record.step} is not finite (learning rate {record.learning_rate:.3g}{where})"


ADVICE = (
    "Lower optimizer.lr, lengthen schedule.warmup_steps or set optimizer.clip_grad_norm; train.non_finite=skip skips "
    "single steps like this one. The last checkpoint is from before"
)
