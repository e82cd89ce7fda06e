"""A learning-rate range test: the loss while the rate grows exponentially over a few orders of magnitude.

Smith, "Cyclical Learning Rates for Training Neural Networks" (arXiv 1506.01186), section 3.3: train for a few epochs
while the rate grows, and read off where the loss begins to fall and where it becomes ragged or rises. The paper's rate
grows linearly; an exponential one gives every order of magnitude as many steps.

The steps are the task's own, from the first sample of the run on, with its optimizer, precision and gradient clipping.
There is no run directory, and no weights are kept.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engine.distributed import Ranks
from engine.optimizer import build_optimizer, set_learning_rate
from engine.parallel import average_scalars, gradient_sync
from engine.placement import place_network
from engine.precision import autocast
from engine.progress import progress_bar
from engine.seeding import seed_position
from engine.task import Task
from engine.update import clip_scaled_gradient, update_parameters
from settings import SettingsError

DIVERGED = 3.0  # the test ends when the smoothed loss exceeds its minimum by this factor
SMOOTHING = 0.1  # width of the smoothing, as a fraction of the steps
BELOW_DIVERGENCE = 0.5  # the suggestion is at most this fraction of the rate at which the loss is smallest


@dataclass(frozen=True)
class RangeTest:
    """The losses of the steps, and the learning rate that they suggest."""

    rates: np.ndarray  # [N], growing
    losses: np.ndarray  # [N]: mean over the batch, before the update; the last may be NaN or infinite

    @property
    def smoothed(self) -> np.ndarray:
        """[M]: the finite losses, each averaged with its neighbors by a Gaussian."""
        return smooth(self.losses[np.isfinite(self.losses)], max(1.0, SMOOTHING / 2 * len(self.losses)))

    @property
    def lowest(self) -> int:
        """The step, from 0, of the smallest smoothed loss."""
        return int(self.smoothed.argmin())

    @property
    def suggestion(self) -> float | None:
        """A peak rate: where the smoothed loss falls fastest. None if it does not fall.

        At most `BELOW_DIVERGENCE` times the rate at which the loss is smallest, because the loss rises beyond it.
        """
        loss, end = self.smoothed, self.lowest
        if end < 2 or loss[end] > 0.98 * loss[0]:
            return None
        slope = np.gradient(loss, np.log(self.rates[: len(loss)]))
        steepest = int(slope[: end + 1].argmin())
        return float(min(self.rates[steepest], BELOW_DIVERGENCE * self.rates[end]))


def smooth(values: np.ndarray, width: float) -> np.ndarray:
    """Weighted means of `values` [N] with Gaussian weights of standard deviation `width`, in steps."""
    distance = np.arange(len(values))
    weights = np.exp(-0.5 * ((distance[:, None] - distance) / width) ** 2)  # [N, N]
    return weights @ values / weights.sum(axis=1)


def range_test(task: Task, ranks: Ranks, lowest: float, highest: float, num_steps: int) -> RangeTest:
    """Runs the test with `num_steps` rates from `lowest` to `highest`; it ends early if the loss diverges.

    Every rank must call it. Raises SettingsError as a run would.
    """
    settings, seed = task.settings.train, task.settings.run.seed
    samples, num_passes = settings.samples_per_forward(ranks), settings.accumulation_steps
    seed_position(seed, -1)
    model = task.build_model()
    task.load_initial_weights(model)
    model, network, _ = place_network(model, settings.model_copy(update={"ema_decay": None}), ranks)
    optimizer = build_optimizer(model, task.settings.optimizer)
    scaler = torch.amp.GradScaler(ranks.device.type, enabled=settings.precision == "fp16")
    rates = np.geomspace(lowest, highest, num_steps)
    batches = iter(task.train_batches(0, num_steps * num_passes, samples, "train"))
    model.train()
    losses: list[float] = []
    with progress_bar(num_steps, 0, ranks, "learning-rate range test") as bar:
        for number, rate in enumerate(rates):
            loss = torch.zeros((), dtype=torch.float64)
            for part in range(num_passes):
                seed_position(seed, (number * num_passes + part) * ranks.num_ranks + ranks.rank)
                with gradient_sync(network, is_last=part == num_passes - 1):
                    with autocast(settings.precision, ranks.device):
                        mean, _ = task.training_step(network, next(batches))
                    scaler.scale(mean / num_passes).backward()
                loss += mean.detach().double().cpu() / num_passes
            losses.append((ranks.sum(loss[None]) / ranks.num_ranks).item())
            bar.update()
            if has_diverged(losses):
                break
            average_scalars(network, ranks)
            set_learning_rate(optimizer, float(rate))
            clip_scaled_gradient(model, optimizer, scaler, task.settings.optimizer.clip_grad_norm)
            update_parameters(optimizer, scaler)
    return RangeTest(rates[: len(losses)], np.array(losses))


def has_diverged(losses: Sequence[float]) -> bool:
    """Whether the last loss is not finite, or the last few are far above the smallest mean of as many."""
    if not math.isfinite(losses[-1]):
        return True
    few = max(3, len(losses) // 20)
    means = np.convolve(losses, np.full(few, 1 / few), mode="valid")
    return len(means) > 0 and bool(means[-1] > DIVERGED * means.min())


def check_range(lowest: float, highest: float, num_steps: int) -> None:
    """Raises SettingsError if the values are not a valid range."""
    if not 0 < lowest < highest < math.inf:
        raise SettingsError(f"the rates go from {lowest:g} to {highest:g}; both must be positive, the first smaller")
    if num_steps < 10:
        raise SettingsError(f"{num_steps} steps are too few to see a curve; use at least 10, preferably 100")
