"""When a run logs, evaluates, saves and ends.

All of it follows from counts: steps, samples, and the cost of an evaluation in samples. No clock decides anything, so a
resumed run does everything at the steps at which the whole run would have done it.
"""

import logging
import math

from engine.train_settings import TrainSettings
from engine.train_state import Progress

log = logging.getLogger(__name__)

MAX_SHARE = 0.1  # of the time of a run that `evaluate_every_epochs: auto` spends on evaluations
FEWEST_EVALUATIONS = 5  # of a run that is long enough for one per epoch
FORWARD_SHARE = 1 / 3  # of a training step's time that its forward pass takes
LOG_LINES = 50  # of a run with `log_every_steps: auto`, at least
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
        """Whether the run ends after `step`, before its length, because evaluations gained nothing; logs so."""
        patience = self._settings.stop_after_evaluations_without_gain
        if patience is None or progress.num_without_gain < patience or step == self.num_steps:
            return False
        log.info(
            "ending after step %d of %d: %d evaluations without gain, as train.stop_after_evaluations_without_gain=%d "
            "asks; the best weights are of step %d. The learning rate followed the schedule of the whole run",
            *(step, self.num_steps, progress.num_without_gain, patience, progress.best_step),
        )
        return True

    def describe(self) -> None:
        """Logs what differs from the plain reading of the recipe."""
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

        An evaluated sample costs a forward pass, and so does one of precise batch norm. At most one evaluation per
        epoch, and at least `FEWEST_EVALUATIONS`, whatever they cost, in a run of as many epochs.
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
