"""Link prediction on knowledge graphs: which entity answers (head, relation, ?), and which (?, relation, tail).

Protocol: Zhu et al., Neural Bellman-Ford Networks, NeurIPS 2021, https://arxiv.org/abs/2106.06935: every fact of the
training graph is asked for in both directions, and the facts that a batch asks for are removed from the graph first.
Evaluation ranks an answer among all entities except other known right answers.

Differences: by default the loss is a softmax over all entities except other known answers; ties get their mean rank; a
batch asks for the same facts, and removes the same edges, on any number of ranks.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from datasets.dataloader import RankBatches
from datasets.graphs import (
    Columns,
    EvalQuestions,
    GraphQuestions,
    KnowledgeSplits,
    KnownAnswers,
    Names,
    TrainQuestions,
    facts_of,
    knowledge_graph,
    read_splits,
    read_triples,
)
from datasets.synthetic.families import make_families
from datasets.text_files import numbered_lines
from engine.checkpoint import read_fact
from engine.fingerprint import Contents, Part
from engine.task import Batch, Evaluation, NamedGraph, ResumeFolder, Task
from eurgraph.reach import index_graph
from evaluators.ranking import RankingEvaluation, rows_of_questions
from evaluators.resumable_predictions import ResumablePredictions, Rows
from models import create_model
from settings import SettingsError
from tasks.class_lists import read_setting
from tasks.evaluation_key import settings_without
from tasks.initial_weights import load_initial_weights
from tasks.link_losses import negatives_loss, softmax_loss
from tasks.link_settings import LinkPredictionSettings
from tasks.loops import evaluation_loader, gather_rows, resumable_in, training_batches
from tasks.scored_list import check_chooses_on_val, on_test
from tasks.training_graph import TrainingGraph

log = logging.getLogger(__name__)

REASONERS = ("eurnet_kg", "nbfnet")
RELATIONS = "relations.txt"
NOT_IN_KEY = {"model": ("pretrained",), "data": ("make", "train", "val", "test", "relations"),
              "evaluation": ("max_non_finite", "questions_per_forward")}  # fmt: skip
"""Settings by section that do not change scores, or only through the contents of the files."""


class LinkPrediction(Task):
    """Trains and evaluates a network that answers questions on a graph."""

    Settings = LinkPredictionSettings
    settings: LinkPredictionSettings
    curves: ClassVar[Mapping[str, str]] = {"loss": "loss", "score": "mean reciprocal rank"}
    advice = """\
  ./run_local.sh tools/predict.py --graph FACTS --ask "HEAD RELATION ?"     answers on your own graph
  ./run_local.sh tools/explain.py --graph FACTS --ask "HEAD RELATION ?"     the paths behind them
  ./run_local.sh tools/evaluate.py          the scores once more, with a report"""

    # Files.

    @property
    def columns(self) -> Columns:
        return Columns(self.settings.data.columns, self.settings.data.header)

    @cached_property
    def splits(self) -> KnowledgeSplits:
        """The facts and the questions."""
        data = self.settings.data
        if data.make is not None:
            make = partial(make_families, Path(data.train).parent, **data.make.model_dump())
            self.ranks.on_main(lambda: read_setting("data.make", make))
        files = (data.train, data.val, data.test, self.settings.evaluation.protocol, self.settings.run.seed)
        splits = read_setting("data", read_splits, *files, self.columns, self._given_relations)
        for note in splits.notes:
            log.info("%s", note)
        return splits

    @cached_property
    def _given_relations(self) -> Names | None:
        """The relations of the network that is fine-tuned or used, in the order of their numbers."""
        given, pretrained = self.settings.data.relations, self.settings.model.pretrained
        if given is None and pretrained is not None:
            recipe = read_fact(Path(pretrained), "recipe")
            given = recipe["data"].get("relations") if isinstance(recipe, dict) and "data" in recipe else None
        if isinstance(given, str):
            given = tuple(line.strip() for _, line in read_setting("data.relations", numbered_lines, Path(given)))
        return None if given is None else Names(given, "relation")

    @property
    def relations(self) -> Names:
        """The relations of the network, without their inverses."""
        return self.splits.relations if self._given_relations is None else self._given_relations

    @property
    def questions(self) -> GraphQuestions:
        """The questions of an evaluation."""
        questions = self.splits.valid if self.settings.evaluation.on == "val" else self.splits.test
        if questions is None:
            raise SettingsError("evaluation.on=test needs data.test, a file of facts or the folder of another graph")
        return questions

    @property
    def precision(self) -> str:
        return "float32"

    @property
    def protocol(self) -> str:
        is_other = self.settings.evaluation.on == "test" and self.questions.entities is not self.splits.entities
        return self.settings.evaluation.protocol if is_other else self.settings.evaluation.on

    @property
    def num_train_samples(self) -> int:
        return 2 * len(self.splits.train)

    @property
    def num_evaluation_samples(self) -> int:
        return 2 * len(self.questions.asked)

    # The network.

    def test_task(self) -> Task | None:
        return None if self.splits.test is None else on_test(self)

    def check(self) -> None:
        check_chooses_on_val(self.settings)
        splits = self.splits
        sizes = (len(splits.train), len(splits.relations), splits.num_train_entities)
        log.info("training: %d facts of %d relations between %d entities", *sizes)
        for name, questions in (("validation", splits.valid), ("test", splits.test)):
            if questions is not None:
                log.info("%s: %d facts to ask for, on a graph of %d", name, len(questions.asked), len(questions.facts))
        super().check()
        if self.settings.train.precision != "float32":
            log.warning("train.precision has no effect: networks for knowledge graphs compute in float32")
        with torch.device("meta"):
            self.build_model()

    def build_model(self) -> nn.Module:
        name = self.settings.model.name
        if name not in REASONERS:
            raise SettingsError(f"model.name must be one of {', '.join(REASONERS)}, got {name!r}")
        if "num_relations" in self.settings.model.options:
            raise SettingsError("model.options.num_relations: the facts decide it")
        try:
            return create_model(name, num_relations=len(self.relations), **self.settings.model.options)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"model: {error}") from error

    def load_initial_weights(self, model: nn.Module) -> None:
        if self.settings.model.pretrained is None:
            model.count_profile(self._training_graph.index)
        load_initial_weights(model, self.settings.model.pretrained, self.fingerprint("outputs"))

    # Training.

    @cached_property
    def _known_in_training(self) -> KnownAnswers:
        return KnownAnswers(self.splits.train, len(self.splits.relations))

    @cached_property
    def _training_graph(self) -> TrainingGraph:
        splits = self.splits
        data = knowledge_graph(splits.train, splits.num_train_entities, len(splits.relations))
        return TrainingGraph(data.to(self.ranks.device), len(splits.relations))

    def train_questions(self, stream: str) -> TrainQuestions:
        splits, loss = self.splits, self.settings.loss
        return TrainQuestions(
            splits.train,
            self._known_in_training,
            splits.num_train_entities,
            len(splits.relations),
            self.settings.run.seed,
            stream,
            loss.num_negatives if loss.name == "negatives" else 0,
        )

    def train_batches(self, first_batch: int, num_batches: int, batch_size: int, stream: str) -> Iterable[Batch]:
        ranks, samples = self.ranks, self.train_questions(stream)
        mine = training_batches(samples, first_batch, num_batches, batch_size, ranks, {})
        of_all_ranks = RankBatches(first_batch, num_batches, batch_size * ranks.num_ranks, 0, 1)
        for numbers, batch in zip(of_all_ranks, mine, strict=True):
            asked = torch.from_numpy(samples.facts_of(numbers)).to(ranks.device)
            yield {**batch, "graph": self._training_graph.without(asked, self.settings.loss.remove)}

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        scores, by_paths = model(batch["graph"], batch["heads"], batch["relations"], with_paths=True)
        scores, settings = scores.float(), self.settings.loss
        if settings.name == "softmax":
            losses = softmax_loss(scores, batch["answers"], batch["known"])
        else:
            losses = negatives_loss(scores, batch["answers"], batch["negatives"], settings.temperature)
        decay = settings.path_decay / 2 * by_paths.float().square().mean() if settings.path_decay else 0
        return losses.mean() + decay, {"loss": losses.detach().sum()}

    # Evaluation.

    def evaluate(self, model: nn.Module) -> Evaluation | None:
        """Scores `model` on the questions of `evaluation.on`, each once on any number of ranks."""
        return self._evaluate(model)

    def evaluate_resumably(self, model: nn.Module, folder: ResumeFolder) -> Evaluation | None:
        return self._evaluate(model, resumable_in(folder, self.evaluation_key(), self.ranks))

    def _evaluate(self, model: nn.Module, resumable: ResumablePredictions | None = None) -> Evaluation | None:
        questions, num_relations = self.questions, len(self.relations)
        known = KnownAnswers(questions.known, num_relations)
        dataset = EvalQuestions(questions.asked, known, num_relations)
        done = () if resumable is None else resumable.done
        loader = evaluation_loader(dataset, self.settings.evaluation.questions_per_forward, self.ranks, {}, done)
        data = knowledge_graph(questions.facts, len(questions.entities), num_relations)
        graph = index_graph(data.to(self.ranks.device), 2 * num_relations)

        def rows_of(batch: Batch) -> Rows:
            scores = model(graph, batch["heads"], batch["relations"])
            return rows_of_questions(batch["index"], scores, batch["answers"], batch["known"])

        gathered = gather_rows(loader, rows_of, self.ranks, len(dataset), resumable)
        if gathered is None:
            return None
        return RankingEvaluation(
            gathered,
            questions.asked,
            questions.entities.names,
            self.relations.names,
            self.protocol,
            len(questions.known),
            self.settings.evaluation.max_non_finite,
        )

    # What runs and reports depend on.

    @property
    def holds_out(self) -> bool:
        return self.settings.evaluation.on == "val" and self.splits.holds_out

    def fingerprint(self, part: Part) -> Mapping[str, Contents]:
        if part == "outputs":
            return {"relations": Contents.of(self.relations.names)}
        if part == "training":
            entities = Contents(self.splits.num_train_entities)
            return {"training triples": Contents.of_rows(self.splits.train), "training entities": entities}
        questions = self.questions
        parts = {"validation triples": questions.asked, "known triples": questions.known, "graph": questions.facts}
        return {name: Contents.of_rows(triples[np.lexsort(triples.T)]) for name, triples in parts.items()}

    def run_files(self) -> dict[str, str]:
        return {RELATIONS: "".join(f"{name}\n" for name in self.relations.names)}

    @classmethod
    def overrides_of_run(cls, run: Path) -> list[str]:
        """Takes the relations from the run directory, so questions need no training file."""
        path = run / RELATIONS
        return [f"data.relations={path}"] if path.exists() else []

    def portable_recipe(self) -> dict[str, Any]:
        recipe = super().portable_recipe()
        recipe["data"]["relations"] = list(self.relations.names)
        return recipe

    def validation_source(self) -> dict[str, str]:
        data, on = self.settings.data, self.settings.evaluation.on
        place = data.val if on == "val" else data.test
        return {"facts": os.path.abspath(place if isinstance(place, str) else data.train), "asked": on}

    def evaluation_key(self) -> dict[str, Any]:
        key = super().evaluation_key()
        return key | settings_without(key, NOT_IN_KEY)

    def report_facts(self) -> dict[str, Any]:
        return {**self.settings.evaluation.model_dump(), "protocol": self.protocol}

    # engine.task.AnswersQuestions, for tools/predict.py --graph and tools/explain.py.

    def read_graph(self, path: Path) -> NamedGraph:
        facts = read_triples(path, self.columns, None, self.relations, new_relations=False)
        data = knowledge_graph(facts.triples, len(facts.entities), len(self.relations))
        return NamedGraph(data.to(self.ranks.device), facts.entities, self.relations, facts.notes)

    @torch.inference_mode()
    def probabilities(
        self, model: nn.Module, graph: NamedGraph, heads: torch.Tensor, relations: torch.Tensor
    ) -> Iterator[torch.Tensor]:
        known = KnownAnswers(facts_of(graph.data), len(self.relations))
        index = model.index(graph.data)
        size = self.settings.evaluation.questions_per_forward
        for first in range(0, len(heads), size):
            batch = heads[first : first + size], relations[first : first + size]
            scores = model(index, *(part.to(self.ranks.device) for part in batch)).double().cpu()
            if self.settings.loss.name == "negatives":
                yield from scores.sigmoid().float()
                continue
            right = torch.zeros_like(scores, dtype=torch.bool)
            right[tuple(torch.from_numpy(part) for part in known.of(*(part.numpy() for part in batch)))] = True
            # An answer that is a fact competes only with nodes not known to answer, as in training.
            unknown = scores.masked_fill(right, float("-inf")).logsumexp(1, keepdim=True)
            total = torch.where(right, torch.logaddexp(unknown, scores), unknown)
            yield from (scores - total).exp().float()
