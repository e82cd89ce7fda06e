"""A classification network's answers for the user's own files, with the views and batches of an evaluation."""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.data import DataLoader

from datasets.dataloader import to_device
from datasets.file_list import FileList
from engine.precision import autocast
from engine.task import Answer, Batch
from evaluators.class_scores import NO_GUESS

if TYPE_CHECKING:
    from tasks.classification import Classification

NON_FINITE = "the network's outputs are NaN or infinite"


def answer_files(
    task: "Classification",
    model: nn.Module,
    inputs: FileList,
    num_answers: int,
    done: Collection[int] = (),
    one_by_one: bool = False,
) -> Iterator[Answer]:
    """See `engine.task.Predicts.answer`."""
    dataset = task.eval_views(inputs)
    # Open files and frames in memory cannot leave this process, and for one batch no worker is worth starting.
    is_small = bool(inputs.contents) or len(inputs) <= (1 if one_by_one else task.files_per_batch(dataset))
    loader = task.prediction_loader(dataset, done, in_process=is_small, one_by_one=one_by_one)
    answer = partial(answer_batch, task, model, inputs=inputs, num_answers=num_answers)
    return answers_in_order(loader, task.ranks.device, answer, done)


def answers_in_order(
    loader: DataLoader, device: torch.device, answer: Callable[[Batch], list[Answer]], done: Collection[int]
) -> Iterator[Answer]:
    """What `answer` yields for each batch, and the unreadable inputs, in order, without those `done`."""
    for batch in to_device(loader, device):
        answers = [Answer(failed["index"], failed["path"], [], failed["reason"]) for failed in batch["failures"]]
        if len(batch["index"]):
            answers += answer(batch)
        yield from sorted(one for one in answers if one.row not in done)


def answer_batch(
    task: "Classification", model: nn.Module, batch: Batch, inputs: FileList, num_answers: int
) -> list[Answer]:
    """Answers for a batch with `views`, `index` and `label` of some of the inputs."""
    with torch.inference_mode(), autocast(task.precision, task.ranks.device):
        rows = task.rows_maker(model, inputs, num_answers)(batch)
    answers = []
    columns = (rows[name].tolist() for name in ("index", "guesses", "probabilities"))
    for index, guesses, probabilities in zip(*columns, strict=True):
        pairs = list(zip(guesses, probabilities, strict=True))[:num_answers]
        named = [(task.class_names[guess], probability) for guess, probability in pairs if guess != NO_GUESS]
        answers.append(Answer(index, inputs[index].path, named, "" if named else NON_FINITE))
    return answers
