"""What the ranks agree on after each step: are its numbers finite, and was any of them asked to stop?

Losses are one rank's own, so the ranks must tell each other; and a host that reads a number from its GPU waits for it.
Neither shall cost time: what a step found is copied without waiting, told with the next step and heard with the one
after, so a run learns of a bad step two steps later, before it has saved or scored anything that came of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from engine.distributed import Ranks

MOST_SHOWN = 64  # samples in a message


class NotFinite(FloatingPointError):
    """A loss, a gradient or a weight that is no number; every rank raises the same."""


@dataclass
class StepRecord:
    """A step as one rank saw it."""

    step: int
    learning_rate: float
    samples: list[list[int]]  # of each forward pass: rows of the training list
    is_finite: torch.Tensor  # [passes + 1] bool, on the CPU: the loss of each pass, then the gradient
    copied: torch.Event | None = None  # when `is_finite` is there

    def finite(self) -> list[bool]:
        if self.copied is not None:
            self.copied.synchronize()
        return self.is_finite.tolist()


def record_step(
    step: int, rate: float, samples: list[list[int]], losses: Sequence[torch.Tensor], norm: torch.Tensor | None
) -> StepRecord:
    """A record of `losses` (scalars, one a pass) and the `norm` of the gradient (None: not asked), without waiting."""
    numbers = torch.stack([*(loss.detach().float() for loss in losses), *([] if norm is None else [norm.float()])])
    is_finite = numbers.isfinite()
    if not is_finite.is_cuda:
        return StepRecord(step, rate, samples, is_finite)
    on_host = torch.empty(is_finite.shape, dtype=torch.bool, pin_memory=True)
    on_host.copy_(is_finite, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return StepRecord(step, rate, samples, on_host, copied)


class Agreement:
    """The ranks' common opinion, late by up to two steps; every rank must make the same calls."""

    def __init__(self, ranks: Ranks, wants_stop: Callable[[], bool]):
        self._ranks, self._wants_stop = ranks, wants_stop
        self._newest: StepRecord | None = None  # not yet told
        self._told: StepRecord | None = None
        self._answer: Callable[[], list[bool]] | None = None

    def after_step(self, record: StepRecord) -> bool:
        """Hands in a step -> whether to stop, as told before it. Raises NotFinite."""
        stop = self._hear()
        self._tell(self._newest)
        self._newest = record
        return stop

    def settle(self) -> bool:
        """Waits for all that was handed in -> whether to stop. Raises NotFinite."""
        stop = self._hear()
        self._tell(self._newest)
        self._newest = None
        return self._hear() or stop

    def is_finite(self, record: StepRecord) -> bool:
        """Waits for the ranks' opinion of `record`, which is not handed in."""
        return not self._ranks.any([not all(record.finite())])[0]

    def _tell(self, record: StepRecord | None) -> None:
        is_bad = record is not None and not all(record.finite())
        self._told, self._answer = record, self._ranks.start_any([self._wants_stop(), is_bad])

    def _hear(self) -> bool:
        if self._answer is None:
            return False
        (stop, is_bad), self._answer = self._answer(), None
        if is_bad:
            raise NotFinite(f"{self.describe(self._told)}. {ADVICE}")
        return stop

    def describe(self, record: StepRecord) -> str:
        """What is not finite in a step, its samples and its learning rate; every rank must call it."""
        found = self._ranks.broadcast(self._ranks.gather((record.finite(), record.samples)))
        of_losses = [
            samples
            for finite, passes in found
            for is_finite, samples in zip(finite, passes, strict=False)
            if not is_finite
        ]
        what = "the loss" if of_losses else "the gradient"
        suspects = of_losses or [samples for _, passes in found for samples in passes]
        rows = [row for samples in suspects for row in samples]
        shown = ", ".join(map(str, rows[:MOST_SHOWN])) + (", ..." if len(rows) > MOST_SHOWN else "")
        return (
            f"{what} of step {record.step} is not finite (learning rate {record.learning_rate:.3g}; "
            f"{len(rows)} samples, rows of the training list from 0: {shown})"
        )


ADVICE = (
    "Lower optimizer.lr, lengthen schedule.warmup_steps or set optimizer.clip_grad_norm; train.non_finite=skip leaves "
    "single such steps out. The last checkpoint is from before"
)
