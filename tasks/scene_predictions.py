"""Predictions of detection and segmentation for the user's own images, with the views and batches of an evaluation."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from datasets.dataloader import to_device
from datasets.file_list import FileList
from engine.precision import autocast
from engine.task import Answer, Seen
from tasks.answers import NON_FINITE

if TYPE_CHECKING:
    from tasks.scenes import SceneTask


def see_files(
    task: SceneTask, model: nn.Module, inputs: FileList, done: Collection[int] = (), one_by_one: bool = False
) -> Iterator[Seen]:
    """See `engine.task.Draws.see`; `done`: inputs to leave out."""
    dataset = task.eval_samples(inputs)
    size = 1 if one_by_one else task.settings.evaluation.images_per_forward
    # Frames in memory cannot leave this process, and for one batch no worker is worth starting.
    in_process = bool(inputs.contents) or len(inputs) <= size
    loader = task.evaluation_loader(dataset, done, in_process, size, alone=True)
    for batch in to_device(loader, task.ranks.device):
        seen = [Seen(failed["index"], failed["path"], None, failed["reason"]) for failed in batch["failures"]]
        if len(batch["index"]):
            with torch.inference_mode(), autocast(task.precision, task.ranks.device):
                found = task.outputs_of(model, batch)
            for index, outputs in zip(batch["index"].tolist(), found, strict=True):
                failure = "" if task.is_finite(outputs) else NON_FINITE
                seen.append(Seen(index, inputs[index].path, None if failure else outputs, failure))
        yield from (one for one in sorted(seen, key=lambda one: one.row) if one.row not in done)


def answer_files(
    task: SceneTask,
    model: nn.Module,
    inputs: FileList,
    num_answers: int,
    done: Collection[int] = (),
    one_by_one: bool = False,
) -> Iterator[Answer]:
    """See `engine.task.Predicts.answer`."""
    for one in see_files(task, model, inputs, done, one_by_one):
        guesses = [] if one.failure else task.guesses(one.outputs)[:num_answers]
        yield Answer(one.row, one.path, guesses, one.failure)
