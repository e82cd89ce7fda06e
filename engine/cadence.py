"""When a run logs, evaluates, saves and ends.

All of it follows from counts: steps, samples, and the cost of an evaluation in samples. No clock is involved, so a
resumed run does everything at the same steps as an uninterrupted one.
"""

import logging
import math

from engine.train_settings import TrainSettings
from engine.train_state import Progress

log = logging.getLogger(__name__)

MAX_SHARE = 0.1  # fraction of a run's time that `evaluate_every_epochs: auto` spends on evaluations
FEWEST_EVALUATIONS = 5  # in a run that is long enough for one per epoch
FORWARD_SHARE = 1 / 3  # fraction of a training step's time that its forward pass takes
LOG_LINES = 50  # at least so many in a run with `log_every_steps: auto`
LOG_EVERY_STEPS = 10


class Cadence:
    """The steps at which a run logs, evaluates, saves and ends.

    Args:
        settings: the section `train` of the recipe.
        samples_per_epoch: training samples per epoch.
        eval_samples: samples that an evaluation runs through the network; None: unknown.
    """

    def __init__(self, settings: TrainSettings, samples_per_epoch: int, eval_samples: int | None = None):
        self._settings = settings
        self.num_steps = settings.num_steps(samples_per_epoch)
        self.log_every_steps = settings.log_every_steps
        if settings.log_every_steps == "auto":
            self.log_every_steps = max(1, min(LOG_EVERY_STEPS, self.num_steps // LOG_LINES))
        one_pass = max(1, samples_per_epoch // settings.batch_size)
        self.precise_bn_batches = min(settings.precise_bn_batches, one_pass)
        self._steps_per_epoch = samples_per_epoch / settings.batch_size
        epochs = settings.evaluate_every_epochs
        self._period = self._affordable_period(eval_samples) if epochs == "auto" else epochs * self._steps_per_epoch

    def epoch(self, step: int) -> float:
        """The epochs completed after `step`."""
        return step / self._steps_per_epoch

    def logs(self, step: int) -> bool:
        return step == self.num_steps or step % self.log_every_steps == 0

    def evaluates(self, step: int) -> bool:
        """Whether this step completes a multiple of the period of evaluations, or the run."""
        completed, before = (math.floor(number / self._period + 1e-9) for number in (step, step - 1))
        return step > 0 and (step == self.num_steps or completed > before)

    def saves(self, step: int) -> bool:
        return step == self.num_steps or step % self._settings.checkpoint_every_steps == 0

    def ends_early(self, step: int, progress: Progress) -> bool:
        """Whether the run ends early after `step`, because evaluations gained nothing. Logs it if so."""
        patience = self._settings.stop_after_evaluations_without_gain
        if patience is None or progress.num_without_gain < patience or step == self.num_steps:
            return False
        log.info(
            "ending after step %d of %d: %d evaluations without gain (train.stop_after_evaluations_without_gain=%d); "
            "the best weights are from step %d. The learning rate followed the schedule of the whole run",
            *(step, self.num_steps, progress.num_without_gain, patience, progress.best_step),
        )
        return True

    def describe(self) -> None:
        """Logs where the run differs from the literal recipe."""
        settings = self._settings
        if self.precise_bn_batches < settings.precise_bn_batches:
            log.info(
                "precise batch norm uses %d batches, one pass over the training list, instead of %d",
                *(self.precise_bn_batches, settings.precise_bn_batches),
            )
        if settings.evaluate_every_epochs == "auto":
            num_evaluations = sum(map(self.evaluates, range(1, self.num_steps + 1)))
            log.info("evaluations: %d, one every %.3g epochs", num_evaluations, self.epoch(self._period))

    def _affordable_period(self, eval_samples: int | None) -> float:
        """Steps between evaluations that together take at most `MAX_SHARE` of the time.

        An evaluated sample costs a forward pass, and so does one of precise batch norm. There is at most one evaluation
        per epoch. A run of at least `FEWEST_EVALUATIONS` epochs has that many evaluations, whatever they cost.
        """
        num_epochs = self.num_steps / self._steps_per_epoch
        most = max(1, math.ceil(num_epochs - 1e-9))
        if eval_samples is None:
            return self.num_steps / most
        networks = 1 if self._settings.ema_decay is None else 2
        cost = (eval_samples + self.precise_bn_batches * self._settings.batch_size) * networks * FORWARD_SHARE
        budget = MAX_SHARE / (1 - MAX_SHARE) * self.num_steps * self._settings.batch_size
        affordable = most if cost <= 0 else math.floor(budget / cost)
        return self.num_steps / min(most, max(affordable, FEWEST_EVALUATIONS))
