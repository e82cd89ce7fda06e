"""Protein function prediction: which of many functions a protein structure has.

Protocol for EC numbers and GO terms: DeepFRI's (Gligorijevic et al., Nature Communications 2021), as in GearNet: a
sigmoid for each label, binary cross entropy, checkpoints ranked by Fmax on the validation chains.
"""

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from datasets.file_list import FileList, read_class_names
from datasets.proteins.labels import (
    Annotations,
    chains_below,
    find_structures,
    label_counts,
    missing,
    read_table,
    split_off,
)
from datasets.proteins.samples import ProteinFiles, ProteinSamples
from datasets.synthetic.protein_folds import make_protein_folds
from engine.fingerprint import Contents, Part
from engine.precision import autocast
from engine.task import Answer, Batch, Evaluation, ResumeFolder, Task
from evaluators.protein_function import FunctionEvaluation
from evaluators.resumable_predictions import ResumablePredictions, Rows
from models import create_model
from settings import SettingsError
from tasks.answers import NON_FINITE, answers_in_order
from tasks.class_lists import read_setting
from tasks.evaluation_key import settings_without
from tasks.initial_weights import load_initial_weights
from tasks.loader_settings import LoaderSettings, loader_options
from tasks.loops import check_any_read, evaluation_loader, gather_rows, resumable_in, training_batches
from tasks.named_classes import NamedClasses
from tasks.protein_settings import ProteinFunctionSettings
from tasks.scored_list import check_chooses_on_val, on_test

log = logging.getLogger(__name__)

LISTS = ("make", "train", "val", "test", "root", "annotations", "identity_table", "class_names", "max_missing")
NOT_IN_KEY = {
    "model": ("pretrained",),
    "data": (*LISTS, *LoaderSettings.CHANGEABLE),
    "evaluation": ("max_non_finite",),
}
"""Settings by section that do not change scores, or only through the contents of the files."""


class ProteinFunction(NamedClasses):
    """Trains and evaluates a network that predicts a protein's functions."""

    Settings = ProteinFunctionSettings
    settings: ProteinFunctionSettings
    curves: ClassVar[Mapping[str, str]] = {"loss": "loss", "fmax": "Fmax"}
    advice = """\
  ./run_local.sh tools/predict.py STRUCTURE     the functions of your own PDB or mmCIF files
  ./run_local.sh tools/evaluate.py              the scores once more, with a report on every protein"""
    find_inputs: ClassVar[Callable[[Iterable[Any]], Sequence[Any]]] = staticmethod(find_structures)

    # Files.

    @cached_property
    def annotations(self) -> Annotations:
        data = self.settings.data
        return read_setting("data.annotations", Annotations, Path(data.annotations), data.labels)

    @cached_property
    def named_labels(self) -> tuple[str, ...] | None:
        """The labels that the recipe names; None if it names none."""
        given = self.settings.data.class_names
        if isinstance(given, str):
            return tuple(read_setting("data.class_names", read_class_names, given))
        return given

    @property
    def class_names(self) -> tuple[str, ...]:
        names = self.named_labels or self._split[0].class_names
        expected = self.settings.model.num_classes
        if expected is not None and expected != len(names):
            raise SettingsError(f"model.num_classes is {expected}, but there are {len(names)} labels; leave it out")
        return names

    def _read(self, split: str, source: str) -> FileList:
        data, root = self.settings.data, Path(self.settings.data.root or Path(source).parent)
        if data.make is not None:
            make = partial(make_protein_folds, Path(data.train).parent, **data.make.model_dump())
            self.ranks.on_main(lambda: read_setting("data.make", make))
        if data.labels == "file":
            names = self.named_labels if split == "train" else self.class_names
            return read_setting(f"data.{split}", read_table, Path(source), root, names)
        keep, identity = None, self.settings.evaluation.identity
        if split == "test" and identity is not None:
            keep = read_setting("data.identity_table", chains_below, Path(data.identity_table), identity)
        files = read_setting(f"data.{split}", self.annotations.read_list, Path(source), root, keep)
        if self.named_labels not in (None, self.annotations.label_names):
            raise SettingsError("data.class_names are not the labels of data.annotations, in their order")
        return files

    @cached_property
    def _split(self) -> tuple[FileList, FileList | None]:
        """The structures of data.train, and those held out for validation."""
        data = self.settings.data
        files = self._read("train", data.train)
        if isinstance(data.val, str):
            return files, None
        return read_setting("data.val", split_off, files, data.val, self.settings.run.seed)

    @property
    def train_files(self) -> FileList:
        return self._split[0]

    @cached_property
    def val_files(self) -> FileList:
        """The structures that an evaluation scores."""
        data, on = self.settings.data, self.settings.evaluation.on
        if on == "test":
            if data.test is None:
                raise SettingsError("evaluation.on=test needs data.test")
            return self._read("test", data.test)
        return self._read("val", data.val) if isinstance(data.val, str) else self._split[1]

    def test_task(self) -> Task | None:
        return None if self.settings.data.test is None else on_test(self)

    @property
    def protocol(self) -> str:
        identity = self.settings.evaluation.identity
        return self.settings.evaluation.on + (f"-below{identity}" if identity else "")

    @property
    def num_train_samples(self) -> int:
        return len(self.train_files)

    @property
    def num_evaluation_samples(self) -> int:
        return len(self.val_files)

    # The network.

    def check(self) -> None:
        check_chooses_on_val(self.settings)
        super().check()
        data = self.settings.data
        lists = {"train": self.train_files, "val": self.val_files}
        if data.test is not None:
            lists["test"] = self._read("test", data.test)
        for name, files in lists.items():
            used = int((label_counts(files, self.num_classes) > 0).sum())
            log.info("%s: %d structures, %d of %d labels", name, len(files), used, self.num_classes)
            if absent := missing(files):
                said = f"{len(absent)} of {len(files)} structures have no file, such as {absent[0].path}"
                if len(absent) > data.max_missing * len(files):
                    raise SettingsError(f"data.{name}: {said}; is data.root right?")
                log.warning("data.%s: %s; they count as unreadable", name, said)
        with torch.device("meta"):
            self.build_model()

    def build_model(self) -> nn.Module:
        model, num_relations = self.settings.model, len(self.settings.data.graph.relations)
        if given := sorted({"num_labels", "num_relations"} & model.options.keys()):
            raise SettingsError(f"model.options.{given[0]}: the labels and data.graph decide it")
        try:
            return create_model(model.name, num_labels=self.num_classes, num_relations=num_relations, **model.options)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"model: {error}") from error

    def load_initial_weights(self, model: nn.Module) -> None:
        load_initial_weights(model, self.settings.model.pretrained, self.fingerprint("outputs"))

    # Training.

    def train_batches(self, first_batch: int, num_batches: int, batch_size: int, stream: str) -> Iterable[Batch]:
        ranks, settings = self.ranks, self.settings
        samples = ProteinSamples(self.train_files, settings.data.graph, self.num_classes, settings.run.seed, stream)
        order = (first_batch, num_batches, batch_size)
        return training_batches(samples, *order, ranks, loader_options(settings.data, ranks))

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        logits = model(batch["graphs"]).float()
        loss = F.binary_cross_entropy_with_logits(logits, batch["targets"].float())
        return loss, {"loss": loss.detach() * len(logits)}

    # Evaluation.

    def evaluate(self, model: nn.Module) -> Evaluation | None:
        """Scores `model` on all validation structures. Raises FileError if none of them can be read."""
        return self._evaluate(model)

    def evaluate_resumably(self, model: nn.Module, folder: ResumeFolder) -> Evaluation | None:
        return self._evaluate(model, resumable_in(folder, self.evaluation_key(), self.ranks))

    def _evaluate(self, model: nn.Module, resumable: ResumablePredictions | None = None) -> Evaluation | None:
        files = self.val_files
        loader = self._loader(files, done=() if resumable is None else resumable.done)
        gathered = gather_rows(loader, partial(_rows_of, model), self.ranks, len(files), resumable)
        if gathered is None:
            return None
        check_any_read(gathered.num_read, gathered.failures, "structure")
        targets = files.targets(range(len(files)), self.num_classes)
        items = [(item.id, item.path) for item in files]
        return FunctionEvaluation(gathered, targets, self.class_names, items, self.settings.evaluation.max_non_finite)

    def _loader(self, files: FileList, done: Collection[int] = (), size: int | None = None):
        """The batches of this rank; see `loops.evaluation_loader`."""
        size = size or self.settings.evaluation.proteins_per_forward
        dataset = ProteinFiles(files, self.settings.data.graph, self.num_classes)
        workers = loader_options(self.settings.data, self.ranks)
        return evaluation_loader(dataset, size, self.ranks, workers, done, in_process=len(files) <= size)

    # What runs and reports depend on.

    def fingerprint(self, part: Part) -> Mapping[str, Contents]:
        if part == "outputs":
            return {"labels": Contents.of(self.class_names)}
        if part == "training":
            return {"training structures": Contents.of(self.train_files.identities())}
        return {"validation structures": Contents.of(sorted(self.val_files.identities()))}

    def validation_source(self) -> dict[str, str]:
        data, on = self.settings.data, self.settings.evaluation.on
        place = data.val if on == "val" else data.test
        source = {"list": os.path.abspath(place if isinstance(place, str) else data.train), "scored": on}
        return source if data.root is None else source | {"root": os.path.abspath(data.root)}

    def answer_key(self) -> dict[str, Any]:
        recipe = self.resolved_recipe()
        sections = settings_without(recipe, NOT_IN_KEY)
        names = list(Contents.of(self.class_names))
        return {"task": recipe["task"], **sections, "precision": self.precision, "labels": names}

    def evaluation_key(self) -> dict[str, Any]:
        files = zip(self.val_files.identities(), self.val_files, strict=True)
        places = Contents.of(f"{identity} {os.path.abspath(item.path)}" for identity, item in files)
        return {**self.answer_key(), "validation structures": list(places)}

    def report_facts(self) -> dict[str, Any]:
        return {**self.settings.evaluation.model_dump(), "labels": self.settings.data.labels}

    # engine.task.Predicts, for tools/predict.py.

    def answer(
        self,
        model: nn.Module,
        inputs: FileList,
        num_answers: int,
        done: Collection[int] = (),
        one_by_one: bool = False,
    ) -> Iterator[Answer]:
        def answer_batch(batch: Batch) -> list[Answer]:
            with torch.inference_mode(), autocast(self.precision, self.ranks.device):
                rows = _rows_of(model, batch)
            answers = []
            for index, scores in zip(rows["index"].tolist(), torch.from_numpy(rows["scores"]), strict=True):
                order = scores.argsort(descending=True, stable=True)[:num_answers].tolist()
                named = [(self.class_names[label], scores[label].item()) for label in order]
                failure = "" if scores.isfinite().all() else NON_FINITE
                answers.append(Answer(index, inputs[index].path, [] if failure else named, failure))
            return answers

        loader = self._loader(inputs, done, 1 if one_by_one else None)
        return answers_in_order(loader, self.ranks.device, answer_batch, done)


def _rows_of(model: nn.Module, batch: Batch) -> Rows:
    """Rows for `evaluators.protein_function.FunctionEvaluation`."""
    logits = model(batch["graphs"]).double()
    scores = logits.sigmoid().masked_fill(~logits.isfinite().all(dim=1, keepdim=True), torch.nan)
    return {"index": batch["index"].numpy(), "scores": scores.cpu().numpy()}
