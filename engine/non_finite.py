"""What the ranks agree on after each step: was every loss and gradient finite, and was any rank asked to stop?

Each rank sees only its own losses, and reading a value from a GPU blocks the host. To avoid that, the flags of step s
are copied asynchronously, sent to the other ranks at step s + 1 and received at step s + 2. A run therefore detects a
bad step two steps late, but before it saves or scores any weights that depend on it.

Finite weights may still give outputs that are not; see `check_score`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from engine.distributed import Ranks
from engine.task import Evaluation
from settings import UserError

MOST_SHOWN = 64  # samples listed in a message


class NotFinite(UserError, FloatingPointError):
    """A loss, gradient, weight or score is NaN or infinite. All ranks raise it together."""

    on_every_rank = True


@dataclass
class StepRecord:
    """A step as one rank saw it."""

    step: int
    learning_rate: float
    rows: list[list[int]]  # per forward pass, the rows of the training list; empty if the batches have no `index`
    parts: list[str]  # names of the loss's parts, pass by pass
    flags: torch.Tensor  # bool, on the CPU: the loss of each pass, the gradient if it is checked, then each of `parts`
    copied: torch.Event | None = None  # recorded when `flags` have arrived from the GPU

    def finite(self) -> list[bool]:
        """Whether the loss of each pass is finite, and then the gradient."""
        return self._flags()[: len(self.flags) - len(self.parts)]

    def bad_parts(self) -> list[str]:
        """The parts of the loss that are NaN or infinite in some pass."""
        flags = self._flags()[len(self.flags) - len(self.parts) :]
        return sorted({part for part, is_finite in zip(self.parts, flags, strict=True) if not is_finite})

    def _flags(self) -> list[bool]:
        if self.copied is not None:
            self.copied.synchronize()
        return self.flags.tolist()


def record_step(
    step: int,
    rate: float,
    rows: list[list[int]],
    losses: Sequence[torch.Tensor],
    norm: torch.Tensor | None,
    sums: Sequence[Mapping[str, torch.Tensor]] = (),
) -> StepRecord:
    """Records `losses` (scalars, one per pass) and the gradient `norm` (None: not checked), without waiting.

    `sums`: what each pass logs; entries whose names begin with "loss_" are the parts of its loss.
    """
    parts = [(name, value) for logged in sums for name, value in logged.items() if name.startswith("loss_")]
    numbers = [*losses, *([] if norm is None else [norm]), *(value for _, value in parts)]
    flags = torch.stack([number.detach().float() for number in numbers]).isfinite()
    names = [name for name, _ in parts]
    if not flags.is_cuda:
        return StepRecord(step, rate, rows, names, flags)
    on_host = torch.empty(flags.shape, dtype=torch.bool, pin_memory=True)
    on_host.copy_(flags, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return StepRecord(step, rate, rows, names, on_host, copied)


class Agreement:
    """Agrees on the outcome of each step across ranks, up to two steps late. Every rank must make the same calls."""

    def __init__(self, ranks: Ranks, wants_stop: Callable[[], bool]):
        self._ranks, self._wants_stop = ranks, wants_stop
        self._newest: StepRecord | None = None  # not sent yet
        self._sent: StepRecord | None = None
        self._answer: Callable[[], list[bool]] | None = None

    def after_step(self, record: StepRecord) -> bool:
        """Submits a step -> whether to stop, as of the previous step. Raises NotFinite."""
        stop = self._receive()
        self._send(self._newest)
        self._newest = record
        return stop

    def settle(self) -> bool:
        """Waits for the outcome of all submitted steps -> whether to stop. Raises NotFinite."""
        stop = self._receive()
        self._send(self._newest)
        self._newest = None
        return self._receive() or stop

    def is_finite(self, record: StepRecord) -> bool:
        """Whether `record` is finite on every rank. Waits for the answer and does not submit the step."""
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
        """Says what is not finite in a step, with its samples and learning rate. Every rank must call it."""
        per_rank = self._ranks.broadcast(self._ranks.gather((record.finite(), record.rows, record.bad_parts())))
        bad_passes = [
            rows
            for finite, passes, _ in per_rank
            for is_finite, rows in zip(finite, passes, strict=False)  # `finite` ends with the gradient
            if not is_finite
        ]
        parts = sorted({part for _, _, names in per_rank for part in names})
        of_parts = f" ({', '.join(parts)})" if parts else ""
        what = f"the loss{of_parts}" if bad_passes else "the gradient"
        rows = [row for pass_rows in bad_passes or chain(*(passes for _, passes, _ in per_rank)) for row in pass_rows]
        shown = ", ".join(map(str, rows[:MOST_SHOWN])) + (", ..." if len(rows) > MOST_SHOWN else "")
        samples = f"; {len(rows)} samples, rows of the training list from 0: {shown}" if rows else ""
        return f"{what} of step {record.step} is not finite (learning rate {record.learning_rate:.3g}{samples})"


ADVICE = (
    "Lower optimizer.lr, increase schedule.warmup_steps or set optimizer.clip_grad_norm in a new run "
    "(run.resume=false), or resume this one with train.non_finite=skip, which skips isolated steps. The last "
    "checkpoint predates the problem"
)


def check_score(evaluation: Evaluation | None, ranks: Ranks, weights: str) -> None:
    """Raises NotFinite on all ranks if `evaluation`, which only the main rank has, has a NaN score.

    `weights` says what was evaluated. Every rank must call it.
    """
    is_nan = evaluation is not None and math.isnan(evaluation.score)
    headline = ranks.broadcast(evaluation.headline() if is_nan else None)
    if headline is not None:
        raise NotFinite(
            f"{weights}: the score is NaN ({headline}). Half precision may overflow (train.precision), or batch norm "
            "statistics may be NaN"
        )
