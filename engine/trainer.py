"""The training loop, on one process or many.

A run is a stream of samples. Sample k is a pure function of (seed, k), and step s consumes the samples
[(s - 1) * batch_size, s * batch_size) on any number of ranks. So there is no generator to save and no sampler to
rewind: a run that was killed resumes from its last checkpoint and gives exactly the same results.

On SIGTERM or SIGUSR1, a run finishes its step, saves and raises Stopped. It also saves before each evaluation, so that
an evaluation can be interrupted at any point.
"""

import logging
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from engine.cadence import Cadence
from engine.checkpoint import CheckpointError
from engine.distributed import Ranks
from engine.fingerprint import PARTS, as_plain, check_same_on_all_ranks, check_same_training, is_validation_other
from engine.json_io import to_json
from engine.non_finite import ADVICE, Agreement, NotFinite, check_score, record_step
from engine.optimizer import build_optimizer, set_learning_rate
from engine.own_code import check_step, score_of, summary_of
from engine.parallel import average_scalars, full_tensors, gradient_sync, local_shard, unsharded
from engine.placement import place_network
from engine.precise_bn import update_batch_norm
from engine.precision import autocast
from engine.progress import Meter, progress_bar
from engine.run import Run, report_evaluation
from engine.schedule import learning_rate
from engine.seeding import seed_position
from engine.signals import Stopped, StopSignals
from engine.skipped_steps import SkippedSteps
from engine.task import Batch, Evaluation, Task, failures_of, rows_of
from engine.train_state import NOT_SCORED, Progress, Rank, restore_state, take_state
from engine.update import INITIAL_SCALE, check_scale, clip_scaled_gradient, update_parameters
from settings import UserError

log = logging.getLogger(__name__)

MAX_SHARE_WAITED = 0.2  # fraction of the training time; warn if training waited longer for data


class TooManyFailures(UserError, RuntimeError):
    """More samples are unreadable than the recipe allows."""

    on_every_rank = True


class Trainer:
    """Trains the network of a task, from scratch or from the last checkpoint of the run.

    Steps count from 1. Apart from the weights and the optimizer state, a step depends only on its number.
    """

    def __init__(self, task: Task, run: Run, ranks: Ranks):
        self.task, self.run, self.ranks = task, run, ranks
        self.settings, self.seed = task.settings.train, task.settings.run.seed
        self.samples_per_epoch = task.num_train_samples
        self.samples_per_forward = self.settings.samples_per_forward(ranks)
        self.cadence = Cadence(self.settings, self.samples_per_epoch, task.num_evaluation_samples)
        self.num_steps = self.cadence.num_steps
        self.fingerprint = {part: task.fingerprint(part) for part in PARTS}
        check_same_on_all_ranks(self.fingerprint, ranks)
        self.recipe = task.portable_recipe()
        self.meter, self.progress = Meter(ranks), Progress()
        run.checkpoints.num_kept = self.settings.keep_checkpoints
        run.checkpoints.keep_every_steps = self.settings.keep_every_steps

        # Initial weights: 1. from the last checkpoint, else 2. pretrained, else 3. random.
        seed_position(self.seed, -1)
        model = task.build_model()
        saved = run.checkpoints.read_newest()
        if saved is not None:
            check_same_training(saved, self.fingerprint, run)
        if saved is None:
            task.load_initial_weights(model)
        self.placed = place_network(model, self.settings, ranks)
        self.model, self.network, self.average = self.placed
        self.optimizer = build_optimizer(self.model, task.settings.optimizer)
        self.scaler = torch.amp.GradScaler(ranks.device.type, INITIAL_SCALE, enabled=self.settings.precision == "fp16")
        self.skipped = SkippedSteps(self.model, self.optimizer, self.scaler, self.meter)
        if saved is not None:
            self._restore(saved)
        if ranks.broadcast(self.progress.step) != self.progress.step:
            raise CheckpointError(
                f"rank {ranks.rank} found a checkpoint of step {self.progress.step} in {run.folder}, but rank 0 found "
                "a different one; all machines of a run need the same run directory, on a shared disk"
            )
        run.start_at(self.progress.step, self.progress.evaluated_step)
        self.cadence.describe()

    def train(self) -> dict[str, float]:
        """Trains to the end -> summary of the last evaluation (empty on ranks other than the main one).

        Raises Stopped after a signal, TooManyFailures (see `_log`), NotFinite, or CheckpointError if the disk is full.
        """
        self.model.train()
        with StopSignals() as self.stop:
            self.agreement = Agreement(self.ranks, lambda: self.stop.name is not None)
            try:
                summary = self._train()
            except Stopped:
                self.run.checkpoints.wait()
                raise
            self.ranks.heartbeat.at("finishing the run directory")
            self.run.checkpoints.wait()
            self.run.plot(self.task.curves)
            self._warn_if_waiting_for_data()
            if self.agreement.settle():  # once the main rank's last files are written
                raise Stopped(f"{self.stop.name or 'a signal to another rank'} after the last step")
        return summary

    def _train(self) -> dict[str, float]:
        summary, first = {}, self.progress.step + 1
        if self.cadence.evaluates(first - 1) and self.progress.evaluated_step < first - 1:  # was interrupted
            summary = self._evaluate(first - 1)
            self._save(first - 1)
        if self.cadence.ends_early(first - 1, self.progress):
            return summary
        batches = iter(self._batches("train", first, self.num_steps))
        self.meter.start()
        with progress_bar(self.num_steps, first - 1, self.ranks, "training") as bar:
            for step in range(first, self.num_steps + 1):
                should_stop = self._step(step, batches)
                bar.update()
                if self.cadence.logs(step):
                    bar.set_postfix(self._log(step), refresh=False)
                with self.meter.paused():
                    self.run.checkpoints.check()
                    summary = self._save_and_evaluate(step, should_stop) or summary
                    if self.cadence.ends_early(step, self.progress):
                        self._save(step)  # includes the sums since the last log line; raising the patience resumes here
                        break
        return summary

    def _step(self, step: int, batches: Iterator[Batch]) -> bool:
        """One optimizer step: forward and backward passes over its accumulated batches, then the update.

        Returns whether any rank was asked to stop. Raises NotFinite.
        """
        num_passes, heartbeat = self.settings.accumulation_steps, self.ranks.heartbeat
        may_skip = self.settings.non_finite == "skip"
        if may_skip:
            self.skipped.remember()
        losses, rows, logged = [], [], []
        for number in range(num_passes):
            heartbeat.at(f"reading the data of step {step}")
            batch = self.meter.next_batch(batches)
            heartbeat.at(f"computing step {step} or syncing its gradients")
            self.run.record_failures(failures_of(batch))
            # Random numbers of the network, as in dropout, also depend only on the position in the run.
            seed_position(self.seed, self._position(step, number))
            with gradient_sync(self.network, is_last=number == num_passes - 1):
                with autocast(self.settings.precision, self.ranks.device):
                    returned = self.task.training_step(self.network, batch)
                check_step(self.task, returned)
                loss, sums = returned
                self.scaler.scale(loss / num_passes).backward()
            self.meter.add({**sums, "unreadable": _num_replaced(batch)}, self.samples_per_forward)
            losses.append(loss)
            rows.append(rows_of(batch))
            logged.append(sums)

        rate = self.learning_rate(step)
        set_learning_rate(self.optimizer, rate)
        average_scalars(self.network, self.ranks)
        limit = self.task.settings.optimizer.clip_grad_norm
        norm = clip_scaled_gradient(self.model, self.optimizer, self.scaler, limit)
        record = record_step(step, rate, rows, losses, norm, logged)
        if not may_skip:
            should_stop = self.agreement.after_step(record)
        elif not self.agreement.is_finite(record):
            self.skipped.skip(record, self.agreement, self.progress, self.ranks.is_main)
            return self.agreement.settle()
        else:
            should_stop = self.agreement.settle()
            self.progress.num_skipped_in_a_row = 0
        self.run.checkpoints.wait_for_copy()
        update_parameters(self.optimizer, self.scaler)
        if self.average is not None:
            self.average.update_parameters(self.model)
        return should_stop

    def _save_and_evaluate(self, step: int, should_stop: bool) -> dict[str, float]:
        """Does whatever is due after a step -> summary of the evaluation, if there was one."""
        summary, evaluates, saves = {}, self.cadence.evaluates(step), self.cadence.saves(step)
        if evaluates or saves or should_stop:
            should_stop = self.agreement.settle() or should_stop
        if evaluates or should_stop:
            self._save(step)
        if should_stop:
            raise Stopped(f"{self.stop.name or 'a signal to another rank'} after step {step}")
        if evaluates:
            summary = self._evaluate(step)
        if saves:
            self._save(step)
        return summary

    def _batches(self, stream: str, first_step: int, last_step: int) -> Iterable[Batch]:
        """This rank's batches for the forward passes of steps `first_step` to `last_step`."""
        num_passes = self.settings.accumulation_steps
        first, end = (first_step - 1) * num_passes, last_step * num_passes
        return self.task.train_batches(first, end - first, self.samples_per_forward, stream)

    def learning_rate(self, step: int) -> float:
        settings = self.task.settings
        milestones = settings.schedule.milestones(self.settings.batch_size, self.samples_per_epoch)
        return learning_rate(step, settings.optimizer.lr, settings.schedule, self.num_steps, milestones)

    def _position(self, step: int, number: int) -> int:
        """The index of this rank's forward pass `number` of `step` among all forward passes of the run."""
        return ((step - 1) * self.settings.accumulation_steps + number) * self.ranks.num_ranks + self.ranks.rank

    def _log(self, step: int) -> dict[str, str]:
        """Logs the averages since the last call; returns the few that the progress bar shows.

        Raises TooManyFailures, on all ranks, if the unreadable samples exceed the fraction `max_unreadable` of the
        samples of all epochs begun: early in an epoch, its bad files may come up before its good ones.
        """
        values = self.meter.close_window()
        if not values:
            return {}
        num_seen = step * self.settings.batch_size
        self.progress.num_unreadable += round(values["unreadable"] * values.pop("num_samples"))
        position = {"epoch": self.cadence.epoch(step), "learning_rate": self.learning_rate(step)}
        self.run.log(step, "train", position | values)
        num_begun = math.ceil(num_seen / self.samples_per_epoch) * self.samples_per_epoch
        if self.progress.num_unreadable > self.settings.max_unreadable * num_begun:
            raise TooManyFailures(
                f"{self.progress.num_unreadable} of {num_seen} samples could not be read, more than "
                f"train.max_unreadable={self.settings.max_unreadable} allows. {self.run.folder / 'failures.jsonl'} "
                "lists them with reasons: repair them, check data.root, or raise the limit"
            )
        shown = {name: name for name in self.task.curves}
        shown |= {"samples_per_second": "samples/s", "waiting_for_data": "waiting for data"}
        return {title: f"{values[name]:.3g}" for name, title in shown.items() if name in values}

    def _warn_if_waiting_for_data(self) -> None:
        if self.meter.share_waited > MAX_SHARE_WAITED and self.ranks.is_main:
            log.warning(
                "training waited for data %.0f %% of the time: more data.num_workers, %s or a faster disk would "
                "speed it up",
                100 * self.meter.share_waited,
                self.task.smaller_files,
            )

    def _evaluate(self, step: int) -> dict[str, float]:
        """Scores the weights and, if the recipe has one, their average -> summary of the better of the two.

        Saves the weights if they are the best so far. Raises Stopped on a signal.
        """
        self._check_weights(step)
        # Same random state as right after the step, so that a resumed run repeats an evaluation exactly.
        seed_position(self.seed, self._position(step, self.settings.accumulation_steps - 1))
        self.progress.num_without_gain += 1
        summary, rank = self._score(step, "val", self.model)
        if self.average is not None:
            average_summary, average_rank = self._score(step, "val_ema", self.average.module)
            summary = average_summary if average_rank >= rank else summary
        self.progress.evaluated_step = step
        self.run.plot(self.task.curves, seconds_between=60)
        return summary

    def _score(self, step: int, split: str, model: nn.Module) -> tuple[dict[str, float], Rank]:
        """Scores `model` as `split` of metrics.jsonl -> its summary (empty on all but the main rank) and rank."""
        self.ranks.heartbeat.at(f"evaluating the weights of step {step}")
        with self.stop.interruptible(), unsharded(model):
            if self.cadence.precise_bn_batches:
                self._refresh_batch_norm(model)
            self.ranks.broadcast_buffers(model)
            model.eval()
            with autocast(self.settings.precision, self.ranks.device):
                evaluation = self.task.evaluate(model)
            model.train()
        summary = {} if evaluation is None else summary_of(evaluation)
        rank = self.ranks.broadcast(NOT_SCORED if evaluation is None else Rank.of(evaluation))
        is_best = self.progress.is_best(rank)
        if evaluation is not None:
            self._log_evaluation(step, split, evaluation, summary, is_best)
        check_score(evaluation, self.ranks, f"weights of step {step}")
        self.progress.num_without_gain *= not self.progress.is_gain(rank)
        if is_best:
            self.progress.set_best(rank, step)
            weights = full_tensors(model.state_dict())
            facts = {"step": str(step), "score": repr(rank.score), "weights": split.replace("val", "model")}
            facts |= {"fingerprint": to_json(as_plain(self.fingerprint)), "recipe": to_json(self.recipe)}
            if self.ranks.is_main:
                self.run.checkpoints.start_writing_best(weights, facts)
        return summary, rank

    def _log_evaluation(
        self, step: int, split: str, evaluation: Evaluation, summary: dict[str, float], is_best: bool
    ) -> None:
        self.run.record_failures(list(evaluation.failures))
        self.run.log(step, split, {"epoch": self.cadence.epoch(step), "score": score_of(evaluation), **summary})
        which = ", averaged weights" if split == "val_ema" else ""
        best = ", the best so far" if is_best else ""
        log.info("step %d of %d%s: %s%s", step, self.num_steps, which, evaluation.headline(), best)
        if math.isnan(evaluation.score):  # the run stops, so this is the last chance to report the scores
            folder = self.run.folder / "evaluations" / f"{self.task.protocol}-step-{step}"
            facts = {"weights": f"{split} of step {step}", **self.task.report_facts()}
            report_evaluation(folder, f"step {step}, evaluated as {self.task.protocol}", facts, evaluation)

    def _refresh_batch_norm(self, model: nn.Module) -> None:
        def forward(batch: Batch) -> None:
            self.run.record_failures(failures_of(batch))
            self.task.training_step(model, batch)

        batches = self._batches("precise_bn", 1, self.cadence.precise_bn_batches)
        with autocast(self.settings.precision, self.ranks.device):
            update_batch_norm(model, forward, batches, self.ranks)

    def _check_weights(self, step: int) -> None:
        """Raises NotFinite, so that NaN or infinite weights are never scored or saved."""
        check_scale(self.scaler, step, is_last=step == self.num_steps)
        names, parameters = zip(*self.model.named_parameters(), strict=True)
        flags = torch.stack([local_shard(parameter).detach().sum().isfinite() for parameter in parameters])
        bad = self.ranks.any((~flags).tolist())
        if any(bad):
            raise NotFinite(f"{names[bad.index(True)]} has NaN or infinite values after step {step}. {ADVICE}")

    def _save(self, step: int) -> None:
        """Starts a thread on the main rank that copies the state, before the next update, and writes it."""
        self.ranks.heartbeat.at(f"saving step {step}")
        self._check_weights(step)
        self.progress.step, self.progress.window = step, self.meter.state()
        state = take_state(self.placed, self.optimizer, self.scaler, self.progress)
        state |= {"samples_seen": step * self.settings.batch_size, "seed": self.seed}
        state |= {"fingerprint": as_plain(self.fingerprint), "recipe": self.recipe}
        if self.ranks.is_main:
            self.run.checkpoints.start_writing(step, state)

    def _restore(self, saved: dict[str, Any]) -> None:
        try:
            self.progress = restore_state(saved, self.placed, self.optimizer, self.scaler)
        except CheckpointError as error:
            raise CheckpointError(
                f"{self.run.checkpoints.last} does not fit the network of this run ({error}); choose another run.dir"
            ) from error
        self.meter.restore(self.progress.window)
        if is_validation_other(saved, self.fingerprint):
            self.progress.forget_best()
        log.info("continuing %s after step %d of %d", self.run.folder, self.progress.step, self.num_steps)


def _num_replaced(batch: Batch) -> int:
    """How many samples of the batch replace an unreadable one. A single sample may have several failures."""
    return len({failure["sample"] for failure in failures_of(batch)})
